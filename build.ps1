<#
.SYNOPSIS
Builds, runs and tests CudaMoE on Windows: the same commands as build.sh.

.DESCRIPTION
No Windows machine was at hand when this script was written: neither it nor the Windows build of the native library has been run yet.
The native sources keep what differs between systems in *_windows.cpp files.

Needed: the .NET SDK 10, git, Visual Studio 2022 (or its build tools) with "Desktop development with C++" and the clang-cl component, CMake 3.25
or newer, Ninja, and vcpkg (https://vcpkg.io) with the environment variable VCPKG_ROOT set. From vcpkg: highway, gtest and pkgconf; for
bench also benchmark, openblas and onednn. Run it in a "x64 Native Tools" prompt, so that the compiler is found.

Not mirrored from build.sh: sanitize, coverage and soak, which need tools that Windows lacks. cuda-report, cuda-ptx, gpu-check and profile run in the
Windows Subsystem for Linux: the executor, on which they rely, is for Linux.

.EXAMPLE
./build.ps1 run
#>
[CmdletBinding()]
param(
    [Parameter(Position = 0)]
    [ValidateSet('run', 'build', 'test', 'bench', 'format', 'clean', 'cuda-report', 'cuda-ptx', 'gpu-check', 'profile', 'help')]
    [string]$Command = 'help',

    [Parameter(Position = 1, ValueFromRemainingArguments)]
    [string[]]$Arguments = @()
)

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

function Assert-Prerequisites([string[]]$Packages) {
    foreach ($program in 'dotnet', 'cmake', 'ninja', 'clang-cl') {
        if (-not (Get-Command $program -ErrorAction SilentlyContinue)) { Stop-With "$program is missing; Get-Help ./build.ps1 lists what is needed" 3 }
    }
    if (-not $env:VCPKG_ROOT) { Stop-With 'VCPKG_ROOT is not set; it must name the folder of vcpkg' 3 }
    $vcpkg = Join-Path $env:VCPKG_ROOT 'vcpkg.exe'
    if (-not (Test-Path $vcpkg)) { Stop-With "$vcpkg does not exist" 3 }
    # vcpkg does nothing for packages that are installed already.
    Invoke-Checked 'vcpkg install' $vcpkg (@('install', '--triplet', $Triplet) + $Packages)
}

function Build-Native([string[]]$Options) {
    $toolchain = Join-Path $env:VCPKG_ROOT 'scripts/buildsystems/vcpkg.cmake'
    $pkgconf = Join-Path $env:VCPKG_ROOT "installed/$Triplet/tools/pkgconf/pkgconf.exe"
    $list = @('-S', $Root, '-B', $Native, '-G', 'Ninja', '-DCMAKE_CXX_COMPILER=clang-cl', '-DCMAKE_C_COMPILER=clang-cl', '-DCMAKE_BUILD_TYPE=Release',
        "-DCMAKE_TOOLCHAIN_FILE=$toolchain", "-DVCPKG_TARGET_TRIPLET=$Triplet", "-DPKG_CONFIG_EXECUTABLE=$pkgconf")
    Invoke-Checked 'configure' 'cmake' ($list + $Options)
    Invoke-Checked 'build native' 'ninja' @('-C', $Native)
}

function Build-Managed {
    Push-Location $Root
    try { Invoke-Checked 'build managed' 'dotnet' @('build', 'CudaMoE.sln', '-c', 'Release', '-v', 'quiet') } finally { Pop-Location }
}

$BuildPackages = @('highway', 'gtest', 'pkgconf')

switch ($Command) {
    'build' {
        Assert-Prerequisites $BuildPackages
        Build-Native @()
        Build-Managed
    }
    'run' {
        Assert-Prerequisites $BuildPackages
        Build-Native @()
        Build-Managed
        if ($Arguments.Count -eq 0) { $Arguments = @('train', 'models/census-mmoe.json') }
        Push-Location $Root
        try { & dotnet $Tool @Arguments } finally { Pop-Location }
        exit $LASTEXITCODE
    }
    'test' {
        Assert-Prerequisites $BuildPackages
        Build-Native @()
        Build-Managed
        & ctest --test-dir $Native --output-on-failure --no-tests=error
        $nativeStatus = $LASTEXITCODE
        & dotnet test (Join-Path $Root 'CudaMoE.sln') -c Release --no-build
        if ($nativeStatus -ne 0 -or $LASTEXITCODE -ne 0) { Stop-With 'tests failed' }
    }
    'bench' {
        Assert-Prerequisites ($BuildPackages + @('benchmark', 'openblas', 'onednn'))
        Build-Native @('-DCUDAMOE_BENCHMARKS=ON')
        Build-Managed
        Invoke-Checked 'native benchmarks' (Join-Path $Native 'native/bench/cudamoe_bench.exe') $Arguments
        foreach ($config in Get-ChildItem (Join-Path $Root 'benchmarks/configs') -Filter '*.json') {
            Invoke-Checked "benchmark $($config.Name)" 'dotnet' @($Tool, 'bench', 'model', '--config', $config.FullName)
        }
        Invoke-Checked 'managed benchmarks' 'dotnet' @('run', '--project', (Join-Path $Root 'benchmarks/CudaMoE.Benchmarks'), '-c', 'Release', '--no-build', '--', '--filter', '*')
    }
    { $_ -in 'cuda-report', 'cuda-ptx', 'gpu-check', 'profile' } {
        if (-not (Get-Command wsl -ErrorAction SilentlyContinue)) { Stop-With "$Command needs the Windows Subsystem for Linux" 3 }
        Push-Location $Root
        try { & wsl ./build.sh $Command @Arguments } finally { Pop-Location }
        exit $LASTEXITCODE
    }
    'format' {
        if ($Arguments.Count -gt 0 -and $Arguments[0] -ne '--check') { Stop-With "format takes --check, not $($Arguments[0])" 2 }
        $check = $Arguments -contains '--check'
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
        Remove-Item -Recurse -Force -ErrorAction SilentlyContinue (Join-Path $Root 'build')
        foreach ($folder in 'src', 'tests', 'benchmarks', 'samples') {
            Get-ChildItem (Join-Path $Root $folder) -Recurse -Directory -Include 'bin', 'obj', 'TestResults' |
                Remove-Item -Recurse -Force -ErrorAction SilentlyContinue
        }
    }
    'help' { Get-Help $PSCommandPath -Full }
}
