"""Between calls and HTTP: pool, redirects, retries, truthful errors."""
