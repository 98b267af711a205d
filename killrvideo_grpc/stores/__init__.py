"""The stores: `sqlite.py` and `astra.py` implement `AccountStore`; the other modules are their parts."""
