"""The use cases, over the ports of the domain. Inputs have the shape that the contract asks for."""
