"""The interceptors that every call passes through, and the chain that runs them."""
