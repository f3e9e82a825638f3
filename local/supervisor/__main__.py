from local.supervisor.main import main

main()
