"""The identity map: who a pseudonym is, and which UIDs are whose. Hospital side only."""
