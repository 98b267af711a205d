"""The databases that accounts can be kept in. Each module implements `domain.ports.UserStore`."""
