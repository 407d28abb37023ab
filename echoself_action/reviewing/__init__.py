"""Review pull requests on the Hub: download their files, check them, apply the gate, and comment the result."""
