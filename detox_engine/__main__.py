from detox_engine.cli.main import main

main()
