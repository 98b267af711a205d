"""The edge: Envoy, configured from the contract."""
