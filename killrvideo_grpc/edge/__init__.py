"""REST for the service: Envoy's configuration and the OpenAPI document, both made from the contract."""
