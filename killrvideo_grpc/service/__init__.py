"""The use cases, over the ports of the domain. Inputs have been validated."""
