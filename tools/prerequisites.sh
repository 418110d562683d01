# Checks that the machine has what a command needs, and installs what is missing from the distribution's packages.
#
# A library is looked for by its header and a program by its name, not by the package, so that an own build of it counts too. On Debian and
# Ubuntu the package of what is missing is installed; elsewhere it is named.

require_packages() { # what for: build, test, bench, format, coverage
  local wanted=(command:ninja:ninja-build command:pkg-config:pkg-config command:cmake:cmake command:g++:g++
    header:hwy/highway.h:libhwy-dev header:gtest/gtest.h:libgtest-dev)
  case "$1" in
    bench) wanted+=(header:benchmark/benchmark.h:libbenchmark-dev header:cblas.h:libopenblas-dev header:dnnl.hpp:libdnnl-dev) ;;
    format) wanted=(command:clang-format-14:clang-format-14) ;; # other versions lay the same code out differently
    coverage) wanted+=(command:gcovr:gcovr) ;;
  esac

  local missing=() entry kind name package
  for entry in "${wanted[@]}"; do
    IFS=: read -r kind name package <<<"$entry"
    has "$kind" "$name" || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
  for entry in "${wanted[@]}"; do
    IFS=: read -r kind name package <<<"$entry"
    has "$kind" "$name" || die "$name is still missing although $package is installed" 3
  done
  check_versions "$1"
}

has() { # kind name
  case "$1" in
    command) command -v "$2" >/dev/null 2>&1 ;;
    header) # without a compiler nothing can be looked for; g++ is installed together with the library then
      command -v g++ >/dev/null 2>&1 && printf '#if !__has_include(<%s>)\n#error\n#endif\n' "$2" | g++ -E -x c++ - >/dev/null 2>&1
      ;;
  esac
}

install_packages() { # packages
  if ! command -v apt-get >/dev/null 2>&1; then
    die "this machine lacks what Debian calls: $*
Install it with your package manager (.ci/run and the documentation name Debian packages), then run this command again." 3
  fi
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo -n)
    if ! sudo -n true 2>/dev/null; then
      die "packages are missing, and this user can install none without a password. Run this, then the same command again:
  sudo apt-get update && sudo apt-get install -y --no-install-recommends $*" 3
    fi
  fi
  as_root+=(env DEBIAN_FRONTEND=noninteractive)
  local options=(-y -q --no-install-recommends -o DPkg::Lock::Timeout=300)
  # The package lists of a fresh machine are empty or old: then they are fetched first.
  if ! step "install $*" "${as_root[@]}" apt-get "${options[@]}" install "$@" 2>/dev/null; then
    step "update package lists" "${as_root[@]}" apt-get -q update || die "apt-get update failed" 3
    step "install $*" "${as_root[@]}" apt-get "${options[@]}" install "$@" || die "the packages $* could not be installed" 3
  fi
}

at_least() { # name version minimum
  [ "$(printf '%s\n%s\n' "$3" "$2" | sort -V | head -n 1)" = "$3" ] || die "$1 is version $2; CudaMoE needs at least $3" 3
}

check_versions() {
  if ! command -v dotnet >/dev/null 2>&1; then
    die "the .NET SDK is missing; CudaMoE needs version 10 (https://dotnet.microsoft.com/download)" 3
  fi
  local sdk
  sdk="$(dotnet --version 2>/dev/null)" ||
    die "no .NET SDK of version 10 is installed (found: $(dotnet --list-sdks | cut -d ' ' -f 1 | tr '\n' ' ')); https://dotnet.microsoft.com/download" 3
  at_least "the .NET SDK" "$sdk" 10.0.100
  [ "$1" != format ] || return 0
  at_least cmake "$(cmake --version | sed -n '1s/.* //p')" 3.25
  at_least g++ "$(g++ -dumpfullversion)" 12
  at_least "Highway (libhwy)" "$(pkg-config --modversion libhwy)" 1.0.3
}
