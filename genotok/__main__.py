from genotok.cli import main

main()
