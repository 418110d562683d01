using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>Feature row → optional layer normalisation → optional projection: everything below the trunk.</summary>
internal sealed class InputBlock
{
    private readonly EmbeddingLayer _embedding;
    private readonly LayerNorm? _norm;
    private readonly GroupedMlp? _projection;
    private readonly ActivationKind _activation;

    public InputBlock(LayerContext context, ModelDescription description, BatchLayout layout, DeviceBatch batch)
    {
        ArchitectureDescription architecture = description.Architecture;
        _activation = architecture.Activation;
        _embedding = new(context, description, layout, batch, MultiTaskModel.TableUnits(description));
        Slot row = _embedding.Output;
        if (architecture.LayerNorm)
        {
            _norm = new(context, "norm", row);
            row = _norm.Output;
        }

        if (architecture.Projection is { } width)
        {
            bool onlyTables = _norm == null && _embedding.EmbeddingWidth > 0;
            _projection = new(context, new()
            {
                Name = "projection",
                Groups = 1,
                Widths = [width],
                Activation = _activation,
                X = row,
                InputWidth = row.Columns,
                Input = GroupInput.Shared,
                InputGradientColumns = onlyTables ? _embedding.EmbeddingWidth : null,
            });
        }

        Output = _projection?.Output ?? row;
        if (context.Training)
            OutputGradient = _projection?.OutputGradient ?? _norm?.OutputGradient ?? _embedding.OutputGradient;
    }

    /// <summary>The trunk's input, [rows, width].</summary>
    public Slot Output { get; }

    /// <summary>Where the trunk adds up the gradient of <see cref="Output"/>, before the projection's activation; null when nothing below is trained.</summary>
    public Slot? OutputGradient { get; }

    /// <summary>What the derivative of the projection's activation is taken from; null without projection.</summary>
    public Slot? Factor => _projection?.OutputFactor;

    /// <summary>The projection's activation.</summary>
    public ActivationKind Activation => _activation;

    /// <summary>Width of the feature row before projection.</summary>
    public long FeatureWidth => _embedding.Output.Columns;

    public EmbeddingLayer Embedding => _embedding;

    public LayerNorm? Norm => _norm;

    public void Pack() => _projection?.Pack();

    /// <summary>Makes a batch readable to <see cref="Forward"/>.</summary>
    public void Load(Batch batch) => _embedding.Load(batch);

    public void Forward(long rows)
    {
        _embedding.Forward();
        _norm?.Forward(rows);
        _projection?.Forward(rows);
    }

    /// <summary>From <see cref="OutputGradient"/> down to the gradient of the embeddings.</summary>
    public void Backward(long rows)
    {
        if (_projection != null)
        {
            _projection.Backward(rows);
            Slot? below = _norm?.OutputGradient ?? _embedding.OutputGradient;
            if (below != null)
                _projection.BackwardInput(rows, new(below, Accumulate: false, Below: null, ActivationKind.None));
        }

        _norm?.Backward(rows, _embedding.OutputGradient);
    }
}
