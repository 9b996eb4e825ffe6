from tunewright.agent.cli.main import main

main()
