<#
.SYNOPSIS
Builds, runs and tests CudaMoE on Windows: the commands of build.sh. `./build.ps1 help` lists them; docs/building.md explains them.

.DESCRIPTION
Needed: the .NET SDK 10, git, Visual Studio 2022 (or its build tools) with "Desktop development with C++" and the clang-cl component, CMake 3.25
or newer, Ninja, and vcpkg (https://vcpkg.io) with the environment variable VCPKG_ROOT set. From vcpkg: highway, gtest and pkgconf, which are
installed when they are missing. Run it in an "x64 Native Tools" prompt, so that the compiler is found.

.EXAMPLE
./build.ps1 run
#>

# No param block: it would take the tool's options that look like PowerShell's own (-o, -v) for itself.
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'
$Root = $PSScriptRoot
$Native = Join-Path $Root 'build/native'
$Tool = Join-Path $Root 'src/CudaMoE.Cli/bin/Release/net10.0/CudaMoE.Cli.dll'
$Triplet = 'x64-windows'
$env:DOTNET_NOLOGO = '1'
$env:DOTNET_CLI_TELEMETRY_OPTOUT = '1'

function Stop-With([string]$Message, [int]$Code = 1) {
    [Console]::Error.WriteLine("error: $Message")
    exit $Code
}

function Invoke-Checked([string]$What, [string]$Program, [string[]]$List) {
    & $Program @List
    if ($LASTEXITCODE -ne 0) { Stop-With "$What failed with exit code $LASTEXITCODE" }
}

function Show-Usage {
    @'
Usage: ./build.ps1 <command> [options]

  run [arguments]     build, then train and evaluate a mixture of experts on the census data;
                      arguments are passed on to the tool instead (`./build.ps1 run devices`)
  build               build the native library, the C# projects and the tool
  test [--native|--managed]
                      run all tests (or one side)
  bench [--model|--managed] [arguments]
                      measure the model configurations and the C# layer
  format [--check]    format C++ and C#; --check only says what is not formatted
  clean               delete everything that this script has built
  help                print this text

On Linux only, or in the Windows Subsystem for Linux, where this script runs ./build.sh with them:
  cuda, cuda-report, cuda-ptx, gpu-check, profile, sanitize, coverage, soak; bench --native and --peers

Exit codes: 0 done, 1 failed, 2 usage, 3 the machine lacks something.
'@
}

function Stop-Usage([string]$Message) {
    [Console]::Error.WriteLine("error: $Message`n")
    [Console]::Error.WriteLine((Show-Usage))
    exit 2
}

function Assert-Prerequisites {
    foreach ($program in 'dotnet', 'cmake', 'ninja', 'clang-cl') {
        if (-not (Get-Command $program -ErrorAction SilentlyContinue)) { Stop-With "$program is missing; docs/building.md lists what is needed" 3 }
    }
    if (-not $env:VCPKG_ROOT) { Stop-With 'VCPKG_ROOT is not set; it must name the folder of vcpkg' 3 }
    $vcpkg = Join-Path $env:VCPKG_ROOT 'vcpkg.exe'
    if (-not (Test-Path $vcpkg)) { Stop-With "$vcpkg does not exist" 3 }
    # vcpkg does nothing for packages that are installed already.
    Invoke-Checked 'vcpkg install' $vcpkg @('install', '--triplet', $Triplet, 'highway', 'gtest', 'pkgconf')
}

function Build-Native {
    $toolchain = Join-Path $env:VCPKG_ROOT 'scripts/buildsystems/vcpkg.cmake'
    $pkgconf = Join-Path $env:VCPKG_ROOT "installed/$Triplet/tools/pkgconf/pkgconf.exe"
    $list = @('-S', $Root, '-B', $Native, '-G', 'Ninja', '-DCMAKE_CXX_COMPILER=clang-cl', '-DCMAKE_C_COMPILER=clang-cl', '-DCMAKE_BUILD_TYPE=Release',
        "-DCMAKE_TOOLCHAIN_FILE=$toolchain", "-DVCPKG_TARGET_TRIPLET=$Triplet", "-DPKG_CONFIG_EXECUTABLE=$pkgconf")
    Invoke-Checked 'configure' 'cmake' $list
    Invoke-Checked 'build native' 'ninja' @('-C', $Native)
}

function Build-Managed {
    Push-Location $Root
    try { Invoke-Checked 'build managed' 'dotnet' @('build', 'CudaMoE.sln', '-c', 'Release', '-v', 'quiet') } finally { Pop-Location }
}

function Build-All {
    Build-Native
    Build-Managed
}

# Runs the tool in the root of the repository, where its default paths lead.
function Invoke-Tool([string[]]$List) {
    Push-Location $Root
    try { & dotnet $Tool @List } finally { Pop-Location }
}

# The executor of the kernels, the sanitizers and gcov are for Linux.
function Invoke-OnLinux([string[]]$List) {
    if (-not (Get-Command wsl -ErrorAction SilentlyContinue)) {
        Stop-With "$($List -join ' ') runs on Linux only; install the Windows Subsystem for Linux (wsl --install) or use a Linux machine" 3
    }
    Push-Location $Root
    try { & wsl ./build.sh @List } finally { Pop-Location }
    exit $LASTEXITCODE
}

# The first argument where it is one of the options, which is taken off the list.
function Read-Option([string[]]$List, [string[]]$Options, [string]$Of) {
    if ($List.Count -eq 0) { return '' }
    if ($List[0] -notin $Options) { Stop-Usage "$Of takes $($Options -join ' or '), not `"$($List[0])`"" }
    return $List[0]
}

$Command, $Arguments = $args
if ($null -eq $Command) { $Command = 'help' }
$Arguments = @($Arguments | Where-Object { $null -ne $_ })

switch ($Command) {
    'build' {
        if ($Arguments.Count -gt 0) { Stop-Usage 'build takes no arguments' }
        Assert-Prerequisites
        Build-All
    }
    'run' {
        Assert-Prerequisites
        Build-All
        if ($Arguments.Count -eq 0) { $Arguments = @('train', 'models/census-mmoe.json') }
        Invoke-Tool $Arguments
        exit $LASTEXITCODE
    }
    'test' {
        if ($Arguments.Count -gt 1) { Stop-Usage 'test takes one option' }
        $only = Read-Option $Arguments @('--native', '--managed') 'test'
        Assert-Prerequisites
        Build-Native
        $failed = $false
        if ($only -ne '--managed') {
            & ctest --test-dir $Native --output-on-failure --no-tests=error
            $failed = $LASTEXITCODE -ne 0
        }
        if ($only -ne '--native') {
            Build-Managed
            & dotnet test (Join-Path $Root 'CudaMoE.sln') -c Release --no-build
            $failed = $failed -or $LASTEXITCODE -ne 0
        }
        if ($failed) { Stop-With 'tests failed' }
    }
    'bench' {
        if ($Arguments.Count -gt 0 -and $Arguments[0] -in '--native', '--peers') { Invoke-OnLinux (@('bench') + $Arguments) }
        $only = Read-Option $Arguments @('--model', '--managed') 'bench'
        $rest = @($Arguments | Select-Object -Skip 1)
        Assert-Prerequisites
        Build-All
        if ($only -ne '--managed') {
            foreach ($config in Get-ChildItem (Join-Path $Root 'benchmarks/configs') -Filter '*.json') {
                Invoke-Checked "benchmark $($config.Name)" 'dotnet' (@($Tool, 'bench', 'model', '--config', $config.FullName) + $rest)
            }
        }
        if ($only -ne '--model') {
            if ($rest.Count -eq 0) { $rest = @('--filter', '*') }
            $project = Join-Path $Root 'benchmarks/CudaMoE.Benchmarks'
            Invoke-Checked 'managed benchmarks' 'dotnet' (@('run', '--project', $project, '-c', 'Release', '--no-build', '--') + $rest)
        }
    }
    { $_ -in 'cuda', 'cuda-report', 'cuda-ptx', 'gpu-check', 'profile', 'sanitize', 'coverage', 'soak' } { Invoke-OnLinux (@($Command) + $Arguments) }
    'format' {
        if ($Arguments.Count -gt 1) { Stop-Usage 'format takes one option' }
        $check = (Read-Option $Arguments @('--check') 'format') -eq '--check'
        Push-Location $Root
        try {
            $sources = git ls-files --cached --others --exclude-standard -- '*.cpp' '*.h' '*.c' '*.cu' '*.cuh'
            if ($check) {
                Invoke-Checked 'check format of C++' 'clang-format' (@('--dry-run', '-Werror') + $sources)
                Invoke-Checked 'check format of C#' 'dotnet' @('format', 'CudaMoE.sln', '--verify-no-changes')
            }
            else {
                Invoke-Checked 'format C++' 'clang-format' (@('-i') + $sources)
                Invoke-Checked 'format C#' 'dotnet' @('format', 'CudaMoE.sln')
            }
        }
        finally { Pop-Location }
    }
    'clean' {
        if ($Arguments.Count -gt 0) { Stop-Usage 'clean takes no arguments' }
        Remove-Item -Recurse -Force -ErrorAction SilentlyContinue (Join-Path $Root 'build')
        foreach ($folder in 'src', 'tests', 'benchmarks', 'samples') {
            Get-ChildItem (Join-Path $Root $folder) -Recurse -Directory -Include 'bin', 'obj', 'TestResults' |
                Remove-Item -Recurse -Force -ErrorAction SilentlyContinue
        }
    }
    { $_ -in 'help', '-h', '--help' } { Show-Usage }
    default { Stop-Usage "`"$Command`" is not a command" }
}
