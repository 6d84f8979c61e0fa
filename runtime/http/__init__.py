"""The app over HTTP: calls, outside clocks, administration, health and the dashboard, as one ASGI application."""
