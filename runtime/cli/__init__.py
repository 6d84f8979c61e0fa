"""The command line `actor-scheduler`: operating an app over HTTP, or on a file that no app has open."""
