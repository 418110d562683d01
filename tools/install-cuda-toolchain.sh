#!/usr/bin/env bash
# Lays the compilers of CUDA 12.4 into a folder of their own, on a machine with Debian's apt: with no GPU, no driver, and nothing installed
# system-wide but g++-12 where it is missing.
#
#   tools/install-cuda-toolchain.sh [--force] [--with-cublas] [--with-sanitizer] [PREFIX]
#
# PREFIX: $CUDA_PREFIX, else /opt/cuda-12.4 where that can be written, else ~/.local/cuda-12.4.
#
# The Debian release after bookworm (trixie) has CUDA 12.4 in its non-free section. This script asks the machine's own apt configuration for
# the archive and the keyring in use, makes a throw-away configuration that points the same archive at trixie, downloads the compilers,
# the runtime and the headers (apt checks the signatures), and unpacks what a compiler needs in the layout of NVIDIA's own installer. So nvcc
# and CMake find everything from PREFIX/bin/nvcc, and the machine's package database stays as it is. NVIDIA's licence comes with the
# files: PREFIX/share/doc.
#
# Environment:
#   CUDA_DEB_CACHE   a folder that keeps the downloaded packages for the next time (about 1 GB)
#   CUDA_SUITE       the Debian suite to take CUDA from (trixie)
#   CUDA_HOST_CXX    the host compiler that nvcc is bound to (g++-12)
#
# Options:
#   --force          install again although PREFIX is complete
#   --with-cublas    the cuBLAS libraries too (230 MB more to download): a peer to measure beside, never linked
#   --with-sanitizer compute-sanitizer too, for machines with a GPU
set -euo pipefail

readonly WANT_NVCC=12.4.131          # upstream versions this recipe was tested with
readonly WANT_DEV=12.4.127
readonly LAYOUT=6                    # raise when the layout below changes: older prefixes are remade

say()  { printf 'cuda-toolchain: %s\n' "$*"; }
fail() { printf 'cuda-toolchain: error: %s\n' "$*" >&2; exit 1; }

default_prefix() { if [[ -w /opt ]]; then echo /opt/cuda-12.4; else echo "$HOME/.local/cuda-12.4"; fi; }

force=0 cublas=0 sanitizer=0 prefix=''
while (($#)); do
  case $1 in
    --force)          force=1 ;;
    --with-cublas)    cublas=1 ;;
    --with-sanitizer) sanitizer=1 ;;
    -h|--help)        sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    -*)               fail "unknown option $1 (see --help)" ;;
    *)                [[ -z $prefix ]] || fail "more than one PREFIX given"; prefix=$1 ;;
  esac
  shift
done
prefix=${prefix:-${CUDA_PREFIX:-$(default_prefix)}}
[[ $prefix == /* ]] || prefix=$PWD/$prefix
prefix=${prefix%/}
[[ -n $prefix ]] || fail "PREFIX may not be the root folder"
suite=${CUDA_SUITE:-trixie}
host_cxx=${CUDA_HOST_CXX:-g++-12}
stamp=$prefix/.installed
signature="layout=$LAYOUT nvcc=$WANT_NVCC host=$host_cxx cublas=$cublas sanitizer=$sanitizer"

# ---------------------------------------------------------------- already there?
has() { [[ " $(cat "$stamp" 2>/dev/null) " == *" $1 "* ]]; }
complete() {
  [[ -f $stamp ]] && has "layout=$LAYOUT" && has "nvcc=$WANT_NVCC" && has "host=$host_cxx" || return 1
  local o
  for o in cublas sanitizer; do
    if [[ ${!o} == 1 ]] && ! has "$o=1"; then return 1; fi
  done
  [[ $("$prefix/bin/nvcc" --version 2>/dev/null) == *"V$WANT_NVCC"* ]]
}
if ((!force)) && complete; then
  say "already complete in $prefix (nvcc $WANT_NVCC); nothing to do"
  exit 0
fi

started=$SECONDS
[[ $(uname -s)/$(uname -m) == Linux/x86_64 ]] || fail "only x86-64 Linux is supported, this is $(uname -s)/$(uname -m)"
for tool in apt-get dpkg-deb tar awk sed flock; do
  command -v "$tool" >/dev/null || fail "'$tool' is missing: this recipe needs a Debian machine"
done

parent=$(dirname "$prefix")
mkdir -p "$parent" 2>/dev/null || fail "cannot create $parent: choose a writable PREFIX"
[[ -w $parent ]] || fail "$parent is not writable: choose another PREFIX or run as root"
exec 9>"$parent/.$(basename "$prefix").lock"
flock 9                                     # two installs of one prefix take turns ...
if ((!force)) && complete; then say "another run completed $prefix meanwhile"; exit 0; fi

free_mb=$(df -Pm "$parent" | awk 'NR==2{print $4}')
((free_mb >= 2500 + 800*cublas)) || fail "too little disk space at $parent: $free_mb MB free"

if ! command -v "$host_cxx" >/dev/null; then
  [[ $(id -u) == 0 ]] || fail "host compiler $host_cxx is missing: run 'apt-get install $host_cxx' as root first"
  say "installing the host compiler $host_cxx"
  apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$host_cxx" >/dev/null \
    || fail "could not install $host_cxx"
fi
host_cxx_path=$(command -v "$host_cxx")

work=$(mktemp -d "$parent/.cuda-toolchain.XXXXXX")
trap 'rm -rf "$work"' EXIT

# ---------------------------------------------------------------- a private apt configuration
# Where this machine's own sources take their release from, in their order. 'update --print-uris'
# reads the configuration alone: it works before the first 'apt-get update', and for any user.
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
[[ -n $codename ]] || fail "/etc/os-release names no Debian release"
mapfile -t archives < <(apt-get update --print-uris 2>/dev/null |
  sed -n "s#^'\([^']*\)/dists/$codename/InRelease'.*#\1#p" | awk '!seen[$0]++')
((${#archives[@]})) || fail "this machine's apt sources name no archive with the release '$codename'"

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
signed=''
[[ -r $keyring ]] && signed="[signed-by=$keyring] "

apt=$work/apt
apt_opts=(
  -o "Dir::Etc::SourceList=$apt/sources.list" -o "Dir::Etc::SourceParts=$apt/parts"
  -o "Dir::Etc::Preferences=$apt/none"        -o "Dir::Etc::PreferencesParts=$apt/parts"
  -o "Dir::State=$apt/state" -o "Dir::State::Lists=$apt/lists" -o "Dir::State::Status=$apt/status"
  -o "Dir::Cache=$apt/cache" -o "APT::Architecture=amd64" -o "APT::Architectures=amd64"
  -o "Acquire::Languages=none" -o "Acquire::Retries=3" -o "Acquire::GzipIndexes=true"
  -o "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false"
  -o "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false"
  -o "APT::Sandbox::User=$(id -un)" -o "Debug::NoLocking=true"
)
say "reading the package lists of $suite from this machine's own Debian archive"
found=0
for archive in "${archives[@]}"; do     # a third party's archive may use the same release name: try in turn
  rm -rf "$apt"
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/state" "$apt/parts"
  printf 'deb %s%s %s main non-free contrib\n' "$signed" "$archive" "$suite" >"$apt/sources.list"
  : >"$apt/status"
  apt-get "${apt_opts[@]}" update -qq >"$work/update.log" 2>&1 || continue
  offered=$(apt-cache "${apt_opts[@]}" show --no-all-versions nvidia-cuda-toolkit 2>/dev/null || true)
  if [[ $offered == *"Version: $WANT_NVCC"* ]]; then found=1; break; fi
done
((found)) || { cat "$work/update.log" >&2; fail "no archive of this machine's has CUDA $WANT_NVCC in suite '$suite' (sections main, non-free, contrib)"; }

# ---------------------------------------------------------------- download
debs=${CUDA_DEB_CACHE:-$work/debs}
mkdir -p "$debs"
packages=(nvidia-cuda-toolkit nvidia-cuda-dev libcudart12 libnvtoolsext1 libnvidia-ml-dev
          libcu++-dev libcub-dev libthrust-dev)
((cublas))  && packages+=(libcublas12 libcublaslt12)
say "downloading ${#packages[@]} packages (about $((1034 + 229*cublas)) MB unless cached)"
(cd "$debs" && apt-get "${apt_opts[@]}" download -qq "${packages[@]}") >"$work/download.log" 2>&1 \
  || { cat "$work/download.log" >&2; fail "download failed"; }
downloaded=$SECONDS

declare -A deb
for p in "${packages[@]}"; do
  # the cache may hold older versions: take the one the signed list names
  version=$(apt-cache "${apt_opts[@]}" show --no-all-versions "$p" | awk '/^Version:/ && !v {v=$2} END {print v}')
  file=$(find "$debs" -maxdepth 1 -name "${p}_${version//:/%3a}_*.deb" -print -quit)
  [[ -n $file ]] || fail "the downloaded file of $p $version is missing"
  deb[$p]=$file
  case $p in
    nvidia-cuda-toolkit) [[ $version == "$WANT_NVCC"* ]] || fail "$suite now has $p $version, this recipe wants $WANT_NVCC" ;;
    nvidia-cuda-dev)     [[ $version == "$WANT_DEV"* ]]  || fail "$suite now has $p $version, this recipe wants $WANT_DEV" ;;
  esac
done

# ---------------------------------------------------------------- unpack only what compiling needs
say "unpacking"
raw=$work/raw new=$work/prefix
mkdir -p "$raw" "$new"/{bin,nvvm/bin,nvvm/libdevice,lib64/stubs,share/doc}
unpack() { local d=$1; shift; dpkg-deb --fsys-tarfile "$d" | tar -x -C "$raw" --no-same-owner --wildcards "$@"; }

unpack "${deb[nvidia-cuda-toolkit]}" --exclude='./usr/lib/cuda/*' './usr/*'
unpack "${deb[nvidia-cuda-dev]}" './usr/include/*' './usr/lib/x86_64-linux-gnu/stubs/*' \
       './usr/lib/x86_64-linux-gnu/libcudart*' './usr/lib/x86_64-linux-gnu/libcudadevrt.a' \
       './usr/lib/x86_64-linux-gnu/libnvToolsExt.so*'   # CMake 3.25's FindCUDAToolkit stops without this library
for p in libcudart12 libnvtoolsext1; do unpack "${deb[$p]}" './usr/lib/*'; done
for p in libnvidia-ml-dev libcu++-dev libcub-dev libthrust-dev; do
  [[ -z ${deb[$p]:-} ]] || unpack "${deb[$p]}" './usr/include/*'
done
for p in libcublas12 libcublaslt12; do
  [[ -z ${deb[$p]:-} ]] || unpack "${deb[$p]}" './usr/lib/x86_64-linux-gnu/*'
done

lib=$raw/usr/lib/x86_64-linux-gnu
tk=$raw/usr/lib/nvidia-cuda-toolkit
for b in __nvcc_device_query bin2c cu++filt cudafe++ cuobjdump fatbinary nvdisasm nvlink nvprune ptxas; do
  mv "$raw/usr/bin/$b" "$new/bin/"
done
mv "$tk/bin/nvcc"  "$new/bin/"                 # the compiler driver itself, not Debian's wrapper
mv "$tk/bin/crt"   "$new/bin/"                 # link.stub, prelink.stub
mv "$tk/bin/cicc"  "$new/nvvm/bin/"
mv "$tk/libdevice/libdevice.10.bc" "$new/nvvm/libdevice/"
mv "$raw/usr/include" "$new/include"
# only the stubs a kernel library links against; each real library stays a run-time matter
for s in libcuda libnvidia-ml libcublas libcublasLt libnvrtc; do mv "$lib/stubs/$s.so" "$new/lib64/stubs/"; done
ln -s libcuda.so "$new/lib64/stubs/libcuda.so.1"   # lets 'ld' resolve an indirect libcuda.so.1 at link time
find "$lib" -maxdepth 1 \( -name 'libcudart*' -o -name 'libcudadevrt.a' -o -name 'libnvToolsExt.so*' -o -name 'libcublas*.so*' \) \
     -exec mv -t "$new/lib64" {} +
((cublas)) && for s in cublas cublasLt; do [[ -e $new/lib64/lib$s.so ]] || ln -s "lib$s.so.12" "$new/lib64/lib$s.so"; done
if ((sanitizer)); then
  mv "$tk/compute-sanitizer" "$new/compute-sanitizer"
  ln -s ../compute-sanitizer/compute-sanitizer "$new/bin/compute-sanitizer"
fi
mv "$raw/usr/share/doc/nvidia-cuda-toolkit/copyright" "$new/share/doc/LICENSE-nvidia-cuda-toolkit"

# The layout of NVIDIA's installer: CMake's FindCUDAToolkit looks under targets/ first.
mkdir -p "$new/targets/x86_64-linux"
ln -s ../../include "$new/targets/x86_64-linux/include"
ln -s ../../lib64   "$new/targets/x86_64-linux/lib"

# nvcc reads this file beside itself. Everything is relative to nvcc, so PREFIX may be moved or copied.
cat >"$new/bin/nvcc.profile" <<'PROFILE'

TOP              = $(_HERE_)/..

CICC_PATH        = $(TOP)/nvvm/bin
NVVMIR_LIBRARY_DIR = $(TOP)/nvvm/libdevice

LD_LIBRARY_PATH += $(TOP)/lib64:
PATH            += $(CICC_PATH):$(_HERE_):

INCLUDES        +=  "-I$(TOP)/include" $(_SPACE_)

LIBRARIES        =+ $(_SPACE_) "-L$(TOP)/lib64/stubs" "-L$(TOP)/lib64"

CUDAFE_FLAGS    +=
PTXAS_FLAGS     +=
PROFILE
cat >"$new/version.json" <<JSON
{ "cuda": { "name": "CUDA SDK", "version": "12.4.1" },
  "cuda_cudart": { "name": "CUDA Runtime (cudart)", "version": "$WANT_DEV" },
  "cuda_nvcc": { "name": "CUDA NVCC", "version": "$WANT_NVCC" } }
JSON
# nvcc -ccbin default: 'NVCC_CCBIN' in the environment, else the first g++ on PATH. 'env.sh' sets it.
cat >"$new/env.sh" <<'ENVSH'
# source this: puts nvcc on PATH and pins the host compiler it was installed for
__cuda_here=$(cd "$(dirname "${BASH_SOURCE[0]:-$0}")" && pwd)
export CUDA_PATH=$__cuda_here CUDACXX=$__cuda_here/bin/nvcc PATH=$__cuda_here/bin:$PATH
ENVSH
printf 'export NVCC_CCBIN=%s CUDAHOSTCXX=%s\nunset __cuda_here\n' "$host_cxx_path" "$host_cxx_path" >>"$new/env.sh"
chmod -R u+rwX,go+rX "$new"
unpacked=$SECONDS

# ---------------------------------------------------------------- prove it before showing it
say "checking: device code for sm_80 and sm_90a, and a shared library on the static runtime"
t=$work/check; mkdir "$t"
cat >"$t/k.cu" <<'CU'
#include <cuda_runtime.h>
#include <cuda_bf16.h>
#include <cuda/std/cstdint>
#include <nvtx3/nvToolsExt.h>
__global__ void k(float* d, const unsigned* a, const __nv_bfloat16* x) {
  float c[4] = {__bfloat162float(x[threadIdx.x]), 0, 0, 0};
#if __CUDA_ARCH__ >= 900
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
    : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(a[4]), "r"(a[5]));
  d[threadIdx.x] = c[0] + c[1] + c[2] + c[3] + sinf(c[0]);
}
extern "C" __attribute__((visibility("default"))) int check_devices() {
  int n = -1; nvtxRangePushA("check"); cudaError_t e = cudaGetDeviceCount(&n); nvtxRangePop();
  if (e == cudaSuccess && n > 0 && n < -1) k<<<1, 32>>>(nullptr, nullptr, nullptr);
  return (int)e;
}
CU
"$new/bin/nvcc" -ccbin "$host_cxx_path" -std=c++17 -O2 \
   -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a \
   -Xcompiler -fPIC,-fvisibility=hidden -shared -cudart static -o "$t/libcheck.so" "$t/k.cu" -ldl \
   >"$t/log" 2>&1 || { cat "$t/log" >&2; fail "the installed nvcc does not compile or link the check program"; }
sass=$("$new/bin/cuobjdump" --dump-sass "$t/libcheck.so")
[[ $sass == *sm_80* && $sass == *sm_90a* && $sass == *HMMA* ]] || fail "the check library lacks the expected machine code"

# ---------------------------------------------------------------- put in place
echo "$signature" >"$new/.installed"
if [[ -e $prefix ]]; then mv "$prefix" "$work/old"; fi
mv "$new" "$prefix"
say "done: $("$prefix/bin/nvcc" --version | tail -n 2 | head -n 1) in $prefix, $(du -sm "$prefix" | cut -f1) MB"
say "seconds: download $((downloaded-started)), unpack $((unpacked-downloaded)), check $((SECONDS-unpacked)), all $((SECONDS-started))"
say "use it: 'source $prefix/env.sh', or cmake -DCMAKE_CUDA_COMPILER=$prefix/bin/nvcc -DCMAKE_CUDA_HOST_COMPILER=$host_cxx_path"
