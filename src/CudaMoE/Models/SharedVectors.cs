using System.Runtime.InteropServices;
using CudaMoE.Balancing;
using CudaMoE.Interop;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>
/// The gradients of shared parameters as vectors of a balancer: kept in f32 on the device, as long as all that is shared, tables included. Only inner products come to the host.
/// </summary>
/// <remarks>
/// <para>Products with a table's gradient A^T dx, A the look-up and dx the gradient of the feature row, are taken as those of dx with the look-up A y: nothing of a table's size is formed.</para>
/// <para>Averages of tables have a factor on the host, y = s c: a step multiplies s and adds to the touched rows of c. Products of the averages follow from those with the gradients,
/// &lt;k y + r g, k' y' + r' g'&gt; multiplied out, in double.</para>
/// <para>Sums of squares are AdaGrad's: its step from 0 is g / sqrt(S), whose product with g is wanted. Of tables it is the difference of two products, before and after the step; the
/// vector that it is read from is set to 0 every <see cref="SquaresPeriod"/> steps, so that it stays small beside its steps.</para>
/// </remarks>
internal sealed unsafe class SharedVectors : IGradientVectors
{
    /// <summary>Tasks for which all vectors fit into one Gram matrix of the native library.</summary>
    public const int MostTasks = 31;

    private const int SquaresPeriod = 64;
    private const double LeastScale = 1e-3;
    private const float Epsilon = 1e-15f;
    private const string ProductsKey = "vector_products";
    private const string ScalesKey = "vector_scales";
    private const string RoundsKey = "vector_rounds";

    private readonly LayerContext _context;
    private readonly SharedGradients _shared;
    private readonly VectorUse _use;
    private readonly int _tasks;
    private readonly TableVectors? _tables;
    private readonly double[] _products;
    private readonly double[] _next;
    private readonly double[] _scales;
    private readonly double[] _cross;
    private readonly double[] _rowCross;
    private readonly float[] _factorValues;
    private nint _factors;
    private nint _squares;
    private OptimizerTensor* _tensors;
    private long _rounds;

    /// <param name="context">The context.</param>
    /// <param name="shared">This step's gradients.</param>
    /// <param name="embedding">The tables.</param>
    /// <param name="tasks">Tasks.</param>
    /// <param name="use">What the balancer does with them.</param>
    public SharedVectors(LayerContext context, SharedGradients shared, EmbeddingLayer embedding, int tasks, VectorUse use)
    {
        _context = context;
        _shared = shared;
        _use = use;
        _tasks = tasks;
        _products = new double[tasks * tasks];
        _next = new double[tasks * tasks];
        _scales = new double[tasks];
        Array.Fill(_scales, 1);
        _cross = new double[shared.Vectors * shared.Vectors];
        _rowCross = new double[shared.Vectors * shared.Vectors];
        _factorValues = new float[3 * tasks];
        context.Activations.Reserve("vectors.factors", 3L * tasks * sizeof(float), p => _factors = p);
        if (shared.Leading == 0)
            return;
        if (shared.HasTables)
            _tables = new(context, embedding, tasks, use == VectorUse.Squares);
        if (use == VectorUse.Squares)
            context.Activations.Reserve("vectors.squares", tasks * shared.Stride * sizeof(float), p => _squares = p);
        context.OnDispose(Free);
        context.OnBind(Bind);
    }

    /// <summary>What a checkpoint keeps of the device's memory.</summary>
    public IEnumerable<(string Name, nint Address, long Count)> States
    {
        get
        {
            if (_shared.Leading == 0)
                yield break;
            long count = _tasks * _shared.Stride;
            if (_use == VectorUse.Tracked)
                yield return ("balancer.vectors", _shared.LeadingDense, count);
            else
                yield return ("balancer.squares", _squares, count);
            foreach ((string name, nint address, long elements) in _tables?.States ?? [])
                yield return ("balancer." + name, address, elements);
        }
    }

    /// <inheritdoc/>
    public double Length(int task) => Math.Sqrt(_shared.LastGram[(task * _tasks) + task]);

    /// <inheritdoc/>
    public void HalfProducts(Span<double> products)
    {
        for (int i = 0; i < _tasks; i++)
        {
            for (int j = 0; j < _tasks; j++)
                products[(i * _tasks) + j] = 4 * _shared.HalfProducts[(i * _shared.TaskParts) + _tasks + j];
        }
    }

    /// <inheritdoc/>
    public void Track(ReadOnlySpan<double> keep, ReadOnlySpan<double> rates)
    {
        _cross.AsSpan().Clear();
        _shared.AddDenseProducts(_cross);
        AddTableProducts(scaled: true, _cross);
        MoveProducts(keep, rates);
        for (int task = 0; task < _tasks; task++)
            Prepare(task, keep[task], rates[task]);
        _context.Stream.CopyToDevice<float>(_factorValues, _factors);
        for (int task = 0; task < _tasks; task++)
        {
            if (keep[task] != 1 || rates[task] != 0)
                Move(task, keep[task], rates[task]);
        }
    }

    /// <inheritdoc/>
    public double TrackedProduct(int first, int second) => _products[(first * _tasks) + second];

    /// <inheritdoc/>
    public void AddSquares(ReadOnlySpan<double> factors, Span<double> sums)
    {
        _context.Stream.Fill(_shared.LeadingDense, 0, _tasks * _shared.Stride * sizeof(float));
        for (int task = 0; task < _tasks; task++)
        {
            if (_rounds % SquaresPeriod == 0)
                _tables?.Clear(task);
            if (factors[task] != 0)
                StepDense(task, (float)factors[task]);
        }

        _rounds++;
        _cross.AsSpan().Clear();
        _shared.AddDenseProducts(_cross);
        for (int task = 0; task < _tasks; task++)
            sums[task] = CrossOf(_cross, task, task);
        AddTableProducts(scaled: false, _rowCross);
        for (int task = 0; task < _tasks; task++)
        {
            sums[task] -= CrossOf(_rowCross, task, task);
            if (factors[task] != 0)
                _tables?.AddSquares(task, _shared.KeptRows(task), (float)factors[task], Epsilon);
        }

        AddTableProducts(scaled: false, _rowCross);
        for (int task = 0; task < _tasks; task++)
            sums[task] = factors[task] == 0 ? 0 : -factors[task] * (sums[task] + CrossOf(_rowCross, task, task));
    }

    /// <inheritdoc/>
    public void Save(Dictionary<string, IReadOnlyList<double>> state)
    {
        if (_shared.Leading == 0)
            return;
        state.Add(ProductsKey, [.. _products]);
        state.Add(ScalesKey, [.. _scales]);
        state.Add(RoundsKey, [_rounds]);
    }

    /// <inheritdoc/>
    public void Load(Func<string, int, IReadOnlyList<double>> take)
    {
        if (_shared.Leading == 0)
            return;
        take(ProductsKey, _products.Length).ToArray().CopyTo(_products, 0);
        take(ScalesKey, _scales.Length).ToArray().CopyTo(_scales, 0);
        _rounds = (long)take(RoundsKey, 1)[0];
    }

    /// <summary>Product of a kept vector with a task's gradient.</summary>
    private double CrossOf(double[] products, int kept, int task) => products[(kept * _shared.Vectors) + _shared.Leading + task];

    /// <summary>Sets <see cref="_rowCross"/> to the products of the feature rows, and adds those of kept vectors with gradients to others, with the vectors' factors.</summary>
    private void AddTableProducts(bool scaled, double[] products)
    {
        _rowCross.AsSpan().Clear();
        if (_tables == null)
            return;
        for (int task = 0; task < _tasks; task++)
            _tables.Lookup(task, _shared.LeadingRows(task));
        _shared.AddRowProducts(_rowCross);
        for (int kept = 0; scaled && kept < _tasks; kept++)
        {
            for (int task = 0; task < _tasks; task++)
                products[(kept * _shared.Vectors) + _shared.Leading + task] += _scales[kept] * CrossOf(_rowCross, kept, task);
        }
    }

    private void MoveProducts(ReadOnlySpan<double> keep, ReadOnlySpan<double> rates)
    {
        for (int i = 0; i < _tasks; i++)
        {
            for (int j = 0; j < _tasks; j++)
            {
                // A gradient whose rate is 0 may be NaN.
                double product = keep[i] * keep[j] * _products[(i * _tasks) + j];
                if (rates[j] != 0)
                    product += keep[i] * rates[j] * CrossOf(_cross, i, j);
                if (rates[i] != 0)
                    product += keep[j] * rates[i] * CrossOf(_cross, j, i);
                if (rates[i] != 0 && rates[j] != 0)
                    product += rates[i] * rates[j] * _shared.LastGram[(i * _tasks) + j];
                _next[(i * _tasks) + j] = product;
            }
        }

        _next.CopyTo(_products, 0);
    }

    /// <summary>The factors of a move: of the dense vector, of the gradient, and of a table whose own factor has become small.</summary>
    private void Prepare(int task, double keep, double rate)
    {
        _factorValues[2 * task] = (float)keep;
        _factorValues[(2 * task) + 1] = (float)rate;
        _factorValues[(2 * _tasks) + task] = (float)(_scales[task] * keep);
    }

    private void Move(int task, double keep, double rate)
    {
        float* factors = (float*)_factors + (2 * task);
        foreach (SharedGradients.Range range in _shared.SharedRanges)
        {
            Slot vector = range.LeadingVectors[task];
            BalanceOperations.Combine(_context, vector, _shared.Leading * _shared.Stride, rate == 0 ? 1 : 2, rows: 1, factors, vector, accumulate: false);
        }

        if (_tables == null)
            return;
        _scales[task] *= keep;
        if (_scales[task] < LeastScale)
        {
            _tables.Scale(task, (float*)_factors + (2 * _tasks) + task);
            _scales[task] = 1;
        }

        if (rate != 0)
            _tables.Add(task, _shared.KeptRows(task), (float)(rate / _scales[task]));
    }

    private void StepDense(int task, float factor)
    {
        int count = 0;
        foreach (SharedGradients.Range range in _shared.SharedRanges)
        {
            _tensors[count++] = new()
            {
                Parameter = range.LeadingVectors[task].Data,
                Gradient = range.Kept[task].Data,
                State1 = (float*)_squares + (task * _shared.Stride) + range.Start,
                Count = range.Gradient.Columns,
                LearningRateScale = 1,
            };
        }

        OptimizerStepArgs args = new()
        {
            StructSize = (uint)sizeof(OptimizerStepArgs),
            TensorCount = count,
            Tensors = _tensors,
            Optimizer = 1,
            LearningRate = 1,
            Epsilon = Epsilon,
            GradientScale = factor,
            Step = 1,
        };
        NativeStatus.Check(NativeMethods.OptimizerStep(_context.Stream.Native, &args));
    }

    private void Bind()
    {
        long bytes = _tasks * _shared.Stride * sizeof(float);
        _context.Stream.Fill(_shared.LeadingDense, 0, bytes);
        if (_use != VectorUse.Squares)
            return;
        _context.Stream.Fill(_squares, 0, bytes);
        _tensors = (OptimizerTensor*)NativeMemory.AllocZeroed((nuint)_shared.SharedRanges.Count, (nuint)sizeof(OptimizerTensor));
    }

    private void Free()
    {
        NativeMemory.Free(_tensors);
        _tensors = null;
    }
}
