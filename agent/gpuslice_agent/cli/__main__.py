from gpuslice_agent.cli import main

main()
