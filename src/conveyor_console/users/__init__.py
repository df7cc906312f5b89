"""Users and invitations over HTTP, for administrators."""
