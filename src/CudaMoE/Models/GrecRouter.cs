using CudaMoE.Description;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>
/// What the router of a grec model reads, one row a token. Where one decision holds for all tokens of a sentence, its input is written once for each of them: equal rows
/// give equal choices.
/// </summary>
internal sealed class GrecRouter
{
    private readonly SlotSums _sums;
    private readonly Slot _fused;
    private readonly int _tokens;
    private readonly long _width;
    private readonly Slot? _taskTokens;
    private readonly Slot? _taskTokensGradient;
    private readonly GrecTasks? _sentenceTasks;
    private readonly GatedProduct? _product;
    private readonly ConstantCombine? _mean;
    private readonly ConstantCombine? _repeat;
    private readonly Slot? _decision;
    private readonly Slot? _decisionGradient;
    private readonly int _tasks;

    /// <param name="sentences">The context whose rows are the sentences, one for each sample and task.</param>
    /// <param name="samples">The context whose rows are the samples.</param>
    /// <param name="sums">Copies and sums.</param>
    /// <param name="level">What decides.</param>
    /// <param name="fused">[sentences * tokens, width] the tokens after the fusion, rows without gaps.</param>
    /// <param name="normed">The same, normalised: what a token alone is judged by.</param>
    /// <param name="tokens">Tokens of a sentence.</param>
    /// <param name="tasks">Tasks.</param>
    /// <param name="taskTokens">The task tokens; null where there are none.</param>
    public GrecRouter(LayerContext sentences, LayerContext samples, SlotSums sums, RoutingLevel level, Slot fused, Slot normed, int tokens, int tasks, GrecTasks? taskTokens)
    {
        _sums = sums;
        _fused = fused;
        _tokens = tokens;
        _tasks = tasks;
        _width = fused.Columns;
        if (level is RoutingLevel.Token or RoutingLevel.TaskSentence)
        {
            Input = normed;
            return;
        }

        if (level != RoutingLevel.Sentence)
        {
            _taskTokens = taskTokens!.Output.Reshape(_width, _width);
            _taskTokensGradient = sentences.Training ? taskTokens.OutputGradient.Reshape(_width, _width) : null;
        }

        switch (level)
        {
            case RoutingLevel.Sentence:
                long all = tokens * _width;
                _sentenceTasks = new(samples, "sentence_tasks.weight", tasks, all);
                _product = new(sentences, "router.sentence", fused.Reshape(all, all), _sentenceTasks.Output.Reshape(all, all), ActivationKind.None);
                _decision = _product.Output;
                _decisionGradient = _product.OutputGradient;
                break;
            case RoutingLevel.TaskSentencePooled:
                _decision = sentences.ReserveExact("router.decision", 2 * _width);
                _decisionGradient = sentences.Training ? sentences.ReserveExact("router.decision_gradient", 2 * _width) : null;
                _mean = new(sentences, new()
                {
                    Name = "router.mean",
                    X = fused.Reshape(tokens * _width, tokens * _width),
                    Y = _decision.Slice(0, _width),
                    Width = _width,
                    Parts = tokens,
                    PartStride = _width,
                    Factor = 1f / tokens,
                });
                break;
            default:
                _decision = _taskTokens!;
                _decisionGradient = sentences.Training ? sentences.ReserveExact("router.decision_gradient", _width) : null;
                break;
        }

        long width = _decision.Columns;
        Input = sentences.Times(tokens).ReserveExact("router.input", width);
        if (sentences.Training)
            InputGradient = sentences.Times(tokens).ReserveExact("router.input_gradient", width);
        _repeat = new(sentences, new() { Name = "router.repeat", X = _decision, Y = Input.Reshape(tokens * width, tokens * width), Width = width, Copies = tokens, CopyStride = width });
    }

    /// <summary>[sentences * tokens, width].</summary>
    public Slot Input { get; }

    /// <summary>Where the gradient of <see cref="Input"/> is to be written; null where that is the normalised tokens'.</summary>
    public Slot? InputGradient { get; }

    public void Pack() => _sentenceTasks?.Pack();

    public void Forward(long sentences)
    {
        _sentenceTasks?.Forward(sentences / _tasks);
        _product?.Forward(sentences);
        if (_mean != null)
        {
            _mean.Forward(sentences);
            _sums.Copy(sentences, _taskTokens!, _decision!.Slice(_width, _width));
        }

        _repeat?.Forward(sentences);
    }

    /// <summary>Adds the gradient of what it read to those of the tokens, <paramref name="fused"/>, and of the task tokens.</summary>
    /// <param name="sentences">Sentences of the batch.</param>
    /// <param name="fused">[sentences * tokens, width], rows without gaps.</param>
    /// <param name="scratch">Of the same shape; overwritten.</param>
    public void Backward(long sentences, Slot fused, Slot scratch)
    {
        if (_repeat == null)
            return;
        long width = _decision!.Columns;
        _repeat.Backward(sentences, InputGradient!.Reshape(_tokens * width, _tokens * width), _decisionGradient!);
        if (_product != null)
        {
            long all = _product.Output.Columns;
            _product.Backward(sentences, fused.Reshape(all, all), _sentenceTasks!.OutputGradient.Reshape(all, all), addToA: true);
            _sentenceTasks.Backward(sentences / _tasks);
            return;
        }

        if (_mean != null)
        {
            long all = _tokens * _width;
            _mean.Backward(sentences, _decisionGradient!.Slice(0, _width), scratch.Reshape(all, all));
            _sums.Add(sentences * _tokens, scratch, fused);
            _sums.Add(sentences, _decisionGradient.Slice(_width, _width), _taskTokensGradient!);
            return;
        }

        _sums.Add(sentences, _decisionGradient!, _taskTokensGradient!);
    }
}
