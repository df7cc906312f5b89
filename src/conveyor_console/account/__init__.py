"""One's own account over HTTP: sign in, stay signed in, sign out."""
