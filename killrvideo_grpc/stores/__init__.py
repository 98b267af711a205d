"""The stores: `sqlite` and `astra` implement `AccountStore`."""
