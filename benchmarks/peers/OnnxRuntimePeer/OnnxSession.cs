using System.Runtime.InteropServices;
using System.Text;

namespace OnnxRuntimePeer;

/// <summary>
/// A model in ONNX Runtime through its C API (onnxruntime_c_api.h): functions are found by their place in the OrtApi table, which only ever grows at its
/// end. Inputs and outputs are bound once to memory of the caller, so a run allocates nothing.
/// </summary>
internal sealed unsafe class OnnxSession : IDisposable
{
    private const uint ApiVersion = 14;
    private const int WarningLevel = 2;
    private const int AllOptimizations = 99;
    private const int FloatType = 1;
    private const int Int32Type = 6;
    private readonly void** _api;
    private readonly nint _environment;
    private readonly nint _session;
    private readonly nint _memory;

    /// <summary>Loads <paramref name="library"/> (libonnxruntime) and the model file with its default settings, all optimisations and so many threads.</summary>
    public OnnxSession(string library, string model, int threads)
    {
        var apiBase = ((delegate* unmanaged<void**>)NativeLibrary.GetExport(NativeLibrary.Load(library), "OrtGetApiBase"))();
        _api = ((delegate* unmanaged<uint, void**>)apiBase[0])(ApiVersion);
        if (_api == null)
            throw new InvalidOperationException($"{library} does not have version {ApiVersion} of the C API");
        Version = Marshal.PtrToStringUTF8(((delegate* unmanaged<nint>)apiBase[1])())!;

        nint environment, options, session, memory;
        fixed (byte* name = "peer\0"u8)
            Check(((delegate* unmanaged<int, byte*, nint*, nint>)_api[Entry.CreateEnv])(WarningLevel, name, &environment));
        _environment = environment;
        Check(((delegate* unmanaged<nint*, nint>)_api[Entry.CreateSessionOptions])(&options));
        Check(((delegate* unmanaged<nint, int, nint>)_api[Entry.SetSessionGraphOptimizationLevel])(options, AllOptimizations));
        Check(((delegate* unmanaged<nint, int, nint>)_api[Entry.SetIntraOpNumThreads])(options, threads));
        byte[] path = OperatingSystem.IsWindows() ? Encoding.Unicode.GetBytes(model + '\0') : Encoding.UTF8.GetBytes(model + '\0');
        fixed (byte* file = path)
            Check(((delegate* unmanaged<nint, byte*, nint, nint*, nint>)_api[Entry.CreateSession])(_environment, file, options, &session));
        _session = session;
        ((delegate* unmanaged<nint, void>)_api[Entry.ReleaseSessionOptions])(options);
        const int arenaAllocator = 1, defaultMemory = 0;
        Check(((delegate* unmanaged<int, int, nint*, nint>)_api[Entry.CreateCpuMemoryInfo])(arenaAllocator, defaultMemory, &memory));
        _memory = memory;
    }

    /// <summary>The library's version.</summary>
    public string Version { get; }

    /// <summary>A tensor over [rows, width] f32 numbers of the caller, who keeps them in place.</summary>
    public nint Bind(float* values, long rows, long width) => Bind(values, rows, width, FloatType);

    /// <summary>A tensor over [rows, width] 32-bit integers of the caller, who keeps them in place.</summary>
    public nint Bind(int* values, long rows, long width) => Bind(values, rows, width, Int32Type);

    /// <summary>Releases a tensor; its numbers stay the caller's.</summary>
    public void Release(nint tensor) => ((delegate* unmanaged<nint, void>)_api[Entry.ReleaseValue])(tensor);

    /// <summary>Computes the logits of a batch.</summary>
    public void Run(nint ids, nint dense, nint logits)
    {
        fixed (byte* idsName = "ids\0"u8, denseName = "dense\0"u8, logitsName = "logits\0"u8)
        {
            byte** inputNames = stackalloc byte*[] { idsName, denseName };
            nint* inputs = stackalloc nint[] { ids, dense };
            Check(((delegate* unmanaged<nint, nint, byte**, nint*, nuint, byte**, nuint, nint*, nint>)_api[Entry.Run])(
                _session, 0, inputNames, inputs, 2, &logitsName, 1, &logits));
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        ((delegate* unmanaged<nint, void>)_api[Entry.ReleaseMemoryInfo])(_memory);
        ((delegate* unmanaged<nint, void>)_api[Entry.ReleaseSession])(_session);
        ((delegate* unmanaged<nint, void>)_api[Entry.ReleaseEnv])(_environment);
    }

    private nint Bind(void* values, long rows, long width, int type)
    {
        const int size = sizeof(float);
        long* shape = stackalloc long[] { rows, width };
        nint tensor;
        Check(((delegate* unmanaged<nint, void*, nuint, long*, nuint, int, nint*, nint>)_api[Entry.CreateTensorWithDataAsOrtValue])(
            _memory, values, (nuint)(rows * width * size), shape, 2, type, &tensor));
        return tensor;
    }

    private void Check(nint status)
    {
        if (status == 0)
            return;
        string message = Marshal.PtrToStringUTF8(((delegate* unmanaged<nint, nint>)_api[Entry.GetErrorMessage])(status))!;
        ((delegate* unmanaged<nint, void>)_api[Entry.ReleaseStatus])(status);
        throw new InvalidOperationException($"ONNX Runtime: {message}");
    }

    /// <summary>Places in the OrtApi table.</summary>
    private static class Entry
    {
        public const int GetErrorMessage = 2;
        public const int CreateEnv = 3;
        public const int CreateSession = 7;
        public const int Run = 9;
        public const int CreateSessionOptions = 10;
        public const int SetSessionGraphOptimizationLevel = 23;
        public const int SetIntraOpNumThreads = 24;
        public const int CreateTensorWithDataAsOrtValue = 49;
        public const int CreateCpuMemoryInfo = 69;
        public const int ReleaseEnv = 92;
        public const int ReleaseStatus = 93;
        public const int ReleaseMemoryInfo = 94;
        public const int ReleaseSession = 95;
        public const int ReleaseValue = 96;
        public const int ReleaseSessionOptions = 100;
    }
}
