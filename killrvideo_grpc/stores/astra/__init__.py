"""The store on Astra DB, or on any Data API."""
