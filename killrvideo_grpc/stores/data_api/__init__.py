"""The client of the Data API: the only package that imports astrapy."""
