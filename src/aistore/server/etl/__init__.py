"""ETL: user code that turns objects into other bytes, in processes of its own beside the server (protocol/50)."""
