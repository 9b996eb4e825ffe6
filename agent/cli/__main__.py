"""`python -m tunewright.agent.cli`."""

from tunewright.agent.cli.main import main

main()
