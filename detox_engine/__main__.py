from detox_engine.cli import main

main()
