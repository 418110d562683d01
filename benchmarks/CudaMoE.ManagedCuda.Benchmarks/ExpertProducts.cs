using CudaMoE.Interop;
using CudaMoE.Tensors;
using ManagedCuda;
using ManagedCuda.CudaBlas;
using Math = System.Math;

namespace CudaMoE.ManagedCuda.Benchmarks;

/// <summary>y[e] = x[e] W[e]^T for each expert e, f32, by the engine and by cuBLAS.</summary>
internal sealed unsafe class ExpertProducts : IDisposable
{
    /// <summary>Timed runs of each way.</summary>
    public const int Runs = 25;

    private readonly DeviceStream _stream;
    private readonly CudaStream _cudaStream;
    private readonly CudaBlas _blas;
    private readonly DeviceBuffer _x;
    private readonly DeviceBuffer _weights;
    private readonly DeviceBuffer _packed;
    private readonly DeviceBuffer _y;
    private readonly DeviceBuffer _workspace;
    private readonly CudaDeviceVariable<float> _one;
    private readonly CudaDeviceVariable<float> _zero;
    private readonly (int Experts, int Rows, int K, int N) _shape;
    private GemmForwardArgs _forward;

    public ExpertProducts(Device device, int experts, int rows, int k, int n)
    {
        _shape = (experts, rows, k, n);
        #region one-queue
        // What cuBLAS is asked for on this stream is in order with the engine's operations on it.
        _stream = device.CreateStream();
        _cudaStream = _stream.AsCudaStream();
        _blas = new(_cudaStream.Stream, PointerMode.Device);
        #endregion
        _one = new(1);
        _zero = new(1);
        _one.CopyToDevice(1f);
        _zero.CopyToDevice(0f);
        _x = Filled(device, (long)experts * rows * k, seed: 1);
        _weights = Filled(device, (long)experts * n * k, seed: 2);
        _y = device.Allocate(sizeof(float) * (long)experts * rows * n);

        GemmPackArgs pack = new()
        {
            StructSize = (uint)sizeof(GemmPackArgs),
            Groups = experts,
            N = n,
            K = k,
            Weights = (float*)_weights.Pointer,
            WeightsRowStride = k,
            WeightsGroupStride = (long)n * k,
            Dtype = NativeConstants.F32,
        };
        long bytes;
        NativeStatus.Check(NativeMethods.GemmPackedBytes(_stream.Native, &pack, &bytes));
        _packed = device.Allocate(bytes);
        pack.Packed = (void*)_packed.Pointer;
        NativeStatus.Check(NativeMethods.GemmPack(_stream.Native, &pack));

        _forward = new()
        {
            StructSize = (uint)sizeof(GemmForwardArgs),
            Groups = experts,
            Rows = rows,
            XRows = rows,
            N = n,
            K = k,
            X = (void*)_x.Pointer,
            XRowStride = k,
            XGroupStride = (long)rows * k,
            Packed = (void*)_packed.Pointer,
            PackedDtype = NativeConstants.F32,
            Y = (void*)_y.Pointer,
            YRowStride = n,
            YGroupStride = (long)rows * n,
        };
        fixed (GemmForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.GemmForwardWorkspace(_stream.Native, args, &bytes));
        _workspace = device.Allocate(bytes);
        _forward.Workspace = (void*)_workspace.Pointer;
        _forward.WorkspaceBytes = bytes;
        _stream.Synchronize();
    }

    public void RunOwn()
    {
        fixed (GemmForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.GemmForward(_stream.Native, args));
    }

    /// <summary>cuBLAS counts columns first, so it is asked for y^T = W x^T.</summary>
    public void RunBlasForEachExpert()
    {
        (int experts, int rows, int k, int n) = _shape;
        for (int e = 0; e < experts; e++)
        {
            using CudaDeviceVariable<float> weights = Part(_weights, e, n * k), x = Part(_x, e, rows * k), y = Part(_y, e, rows * n);
            _blas.Gemm(Operation.Transpose, Operation.NonTranspose, n, rows, k, _one, weights, k, x, k, _zero, y, n);
        }
    }

    public void RunBlasBatched()
    {
        (int experts, int rows, int k, int n) = _shape;
        using CudaDeviceVariable<float> weights = _weights.AsCudaDeviceVariable<float>(), x = _x.AsCudaDeviceVariable<float>(), y = _y.AsCudaDeviceVariable<float>();
        _blas.GemmStridedBatched(
            Operation.Transpose, Operation.NonTranspose, n, rows, k, _one, weights, k, (long)n * k, x, k, (long)rows * k, _zero, y, n, (long)rows * n, experts);
    }

    /// <summary>Median time of a run on the device, in microseconds, after one run that is not timed.</summary>
    public double Time(Action run)
    {
        using CudaEvent begin = new(), end = new();
        double[] times = new double[Runs];
        for (int i = -1; i < Runs; i++)
        {
            begin.Record(_cudaStream.Stream);
            run();
            end.Record(_cudaStream.Stream);
            _stream.Synchronize();
            if (i >= 0)
                times[i] = 1000 * CudaEvent.ElapsedTime(begin, end);
        }

        Array.Sort(times);
        return times[Runs / 2];
    }

    public float[] ReadOutput()
    {
        float[] values = new float[_y.Bytes / sizeof(float)];
        _stream.CopyToHost<float>(_y.Pointer, values);
        return values;
    }

    public double LargestDifference(float[] expected)
    {
        float[] values = ReadOutput();
        double largest = 0;
        for (int i = 0; i < values.Length; i++)
            largest = Math.Max(largest, Math.Abs((double)values[i] - expected[i]));
        return largest;
    }

    public void Dispose()
    {
        _one.Dispose();
        _zero.Dispose();
        _blas.Dispose();
        _cudaStream.Dispose();
        foreach (DeviceBuffer buffer in (DeviceBuffer[])[_x, _weights, _packed, _y, _workspace])
            buffer.Dispose();
        _stream.Dispose();
    }

    private static CudaDeviceVariable<float> Part(DeviceBuffer buffer, int index, int count)
    {
        long bytes = (long)count * sizeof(float);
        using DeviceBuffer part = buffer.Device.WrapMemory(buffer.Pointer + (nint)(index * bytes), bytes);
        return part.AsCudaDeviceVariable<float>();
    }

    private DeviceBuffer Filled(Device device, long count, int seed)
    {
        float[] values = new float[count];
        Random random = new(seed);
        for (long i = 0; i < count; i++)
            values[i] = (random.NextSingle() * 2) - 1;
        DeviceBuffer buffer = device.Allocate(count * sizeof(float));
        _stream.CopyToDevice<float>(values, buffer.Pointer);
        return buffer;
    }
}
