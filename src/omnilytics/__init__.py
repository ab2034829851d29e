"""OmniLytics."""
