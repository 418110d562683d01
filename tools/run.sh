# Runs the built cudamoe tool: by default it trains and evaluates the model of the README on the census data.

TOOL="$ROOT/src/CudaMoE.Cli/bin/Release/net10.0/CudaMoE.Cli.dll"

run_tool() { # arguments of the tool
  if [ $# -eq 0 ]; then set -- train models/census-mmoe.json; fi
  exec dotnet "$TOOL" "$@"
}
