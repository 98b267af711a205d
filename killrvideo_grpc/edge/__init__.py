"""REST for the service: Envoy's configuration and the OpenAPI document, both generated from the contract."""
