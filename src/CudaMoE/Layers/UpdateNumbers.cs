using CudaMoE.Description;
using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>The learning rates of a step and what follows from its number, in device memory, where the updates read them: so a captured update can run with those of another step.</summary>
internal sealed unsafe class UpdateNumbers
{
    private readonly LayerContext _context;
    private readonly OptimizerDescription _dense;
    private readonly OptimizerDescription _embedding;
    private readonly StepNumbers[] _values = new StepNumbers[2];
    private StepNumbers* _device;

    public UpdateNumbers(LayerContext context, OptimizerDescription dense, OptimizerDescription embedding)
    {
        _context = context;
        _dense = dense;
        _embedding = embedding;
        context.Activations.Reserve("update.numbers", _values.Length * sizeof(StepNumbers), p => _device = (StepNumbers*)p);
    }

    /// <summary>Device address of those of the dense parameters.</summary>
    public StepNumbers* Dense => _device;

    /// <summary>Device address of those of the tables.</summary>
    public StepNumbers* Embedding => _device + 1;

    /// <summary>Queues those of a step; updates that were queued before keep theirs.</summary>
    /// <param name="learningRate">Of the dense parameters.</param>
    /// <param name="embeddingLearningRate">Of the tables.</param>
    /// <param name="step">Counts from 1.</param>
    public void Set(float learningRate, float embeddingLearningRate, long step)
    {
        _values[0] = Make(learningRate, _dense, step);
        _values[1] = Make(embeddingLearningRate, _embedding, step);
        _context.Stream.CopyToDevice<StepNumbers>(_values, (nint)_device);
    }

    private static StepNumbers Make(float learningRate, OptimizerDescription optimizer, long step)
    {
        StepNumbers numbers;
        NativeStatus.Check(NativeMethods.StepNumbersMake(learningRate, optimizer.Beta1, optimizer.Beta2, step, &numbers));
        return numbers;
    }
}
