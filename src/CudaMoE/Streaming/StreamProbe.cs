using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Streaming.Xsmoe;
using CudaMoE.Tensors;

namespace CudaMoE.Streaming;

/// <summary>The side ladder of a modality in a <see cref="StreamProbe"/>.</summary>
/// <param name="Width">Width of the encoder's states.</param>
/// <param name="Experts">Experts of each layer, the lowest first: at least 1 each.</param>
public sealed record ProbedSide(int Width, IReadOnlyList<int> Experts);

/// <summary>What a <see cref="StreamProbe"/> runs on.</summary>
public sealed record StreamProbeInputs
{
    /// <summary>For each modality [items + 1, 1 + layers, width]: of each item the encoder's embedding output and its states at <c>model.layers</c>; item 0 is padding.</summary>
    public required IReadOnlyList<float[]> States { get; init; }

    /// <summary>At least one; the items of each from 1 on, oldest first, 2 to <c>model.history</c> + 1 of them.</summary>
    public required IReadOnlyList<IReadOnlyList<int>> Sequences { get; init; }

    /// <summary>[items + 1] shares that the loss takes the logarithm of; above 0 for all items of the sequences. Null = the items' shares of the sequences.</summary>
    public IReadOnlyList<double>? Popularity { get; init; }
}

/// <summary>What a <see cref="StreamProbe"/> gives.</summary>
public sealed record StreamProbeAnswer
{
    /// <summary>[items + 1, hidden] vectors of all items; those of item 0 are 0.</summary>
    public required float[] Items { get; init; }

    /// <summary>[sequences, history, hidden] the user's vector at each place; sequences stand at the end of their places, and places without an item hold 0.</summary>
    public required float[] Users { get; init; }

    /// <summary>[sequences, items + 1] inner products of the user's last vector and all items.</summary>
    public required float[] Scores { get; init; }

    /// <summary>The in-batch loss of all sequences together.</summary>
    public required double Loss { get; init; }

    /// <summary>Gradient of the loss for each parameter, by its name.</summary>
    public required IReadOnlyDictionary<string, float[]> Gradients { get; init; }
}

/// <summary>
/// The XSMoE network of a stream's description outside of a stream: outputs, loss and gradients for given parameters, states and sequences, to check a model that
/// was ported from elsewhere. No expert is frozen and nothing is dropped.
/// </summary>
public sealed class StreamProbe : IDisposable
{
    private readonly StreamDescription _description;
    private readonly GivenStates[] _states;
    private readonly int _items;
    private readonly XsmoeModel _model;

    /// <summary>Builds the network.</summary>
    /// <param name="device">Where it computes.</param>
    /// <param name="description">The stream; its log and its sources of states are not read.</param>
    /// <param name="sides">The ladders, one a modality, with as many layers as <c>model.layers</c> has.</param>
    /// <param name="sequences">The most sequences of a run.</param>
    /// <param name="items">Items, padding not counted.</param>
    /// <exception cref="CudaMoEException">The sides do not fit the description.</exception>
    public StreamProbe(Device device, StreamDescription description, IReadOnlyList<ProbedSide> sides, int sequences, int items)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(sequences, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(items, 1);
        int layers = description.Model.Layers.Count;
        if (sides.Count != description.Modalities.Count)
            throw new CudaMoEException($"{sides.Count} ladders are given; the stream has {description.Modalities.Count} modalities");
        foreach ((ProbedSide side, ModalityDescription modality) in sides.Zip(description.Modalities))
        {
            if (side.Experts.Count != layers || side.Experts.Any(count => count is < 1 or > XsmoeShape.MaxExperts))
                throw new CudaMoEException($"modality \"{modality.Name}\" has [{string.Join(", ", side.Experts)}] experts; it must be 1 to {XsmoeShape.MaxExperts} in each of {layers} layers");
        }

        _description = description;
        _items = items;
        _states = [.. sides.Select(side => new GivenStates(layers + 1, side.Width))];
        string[] names = [.. Enumerable.Range(0, items + 1).Select(item => item.ToString(System.Globalization.CultureInfo.InvariantCulture))];
        IReadOnlyList<FrozenStates> frozen =
            [.. _states.Select((states, i) => new FrozenStates(description.Modalities[i].Name, states, [.. Enumerable.Range(1, layers)], names))];
        SideShape[] shapes =
        [
            .. sides.Select((side, i) => new SideShape
            {
                Name = description.Modalities[i].Name,
                Width = side.Width,
                Layers = [.. side.Experts.Select(count => new SideExperts(count, Frozen: 0))],
            }),
        ];
        _model = new(device, XsmoeShape.Of(description, shapes, sequences, items + 1) with { Dropout = 0 }, frozen);
    }

    /// <summary>The parameters: their names and shapes.</summary>
    public IReadOnlyList<Parameter> Parameters => _model.Parameters;

    /// <summary>Sets a parameter; all must be set before <see cref="Run"/>.</summary>
    /// <param name="parameter">One of <see cref="Parameters"/>.</param>
    /// <param name="values">Its numbers in row-major order.</param>
    public void Set(Parameter parameter, ReadOnlySpan<float> values)
    {
        if (values.Length != parameter.Count)
            throw new ArgumentException($"{parameter.Name} has {parameter.Count} numbers; {values.Length} are given", nameof(values));
        _model.Stream.CopyToDevice(values, parameter.Value);
    }

    /// <summary>Computes everything.</summary>
    /// <exception cref="CudaMoEException">An input is wrong; the message says which.</exception>
    public StreamProbeAnswer Run(StreamProbeInputs inputs)
    {
        Check(inputs);
        for (int i = 0; i < _states.Length; i++)
            _states[i].Values = inputs.States[i];
        int history = _description.Model.History, hidden = _description.Model.Hidden;
        SequenceSet set = SequenceSet.Of([.. inputs.Sequences.SelectMany((items, user) => items.Select(item => new Interaction(user, item)))], history);
        int[] all = [.. Enumerable.Range(0, set.Count)];
        _model.ParametersChanged();
        _model.BuildTable(_items);
        float[] table = _model.ReadTable();
        float[] scores = new float[set.Count * (_items + 1)];
        for (int first = 0; first < set.Count; first += _model.RankedSequences)
        {
            int count = Math.Min(_model.RankedSequences, set.Count - first);
            _model.Score(XsmoeBatch.ForRanking(set, all.AsSpan(first, count), history), scores.AsSpan(first * (_items + 1), count * (_items + 1)));
        }

        double[] popularity = inputs.Popularity?.ToArray() ?? set.Popularity(_items);
        XsmoeBatch batch = XsmoeBatch.ForTraining(set, all, history, popularity, _model.ScoreStride);
        double loss = _model.Loss(batch, step: -1);
        float[] rows = _model.ReadUsers(set.Count);
        float[] users = new float[rows.Length];
        for (int s = 0; s < set.Count; s++)
        {
            int length = batch.Lengths[s];
            rows.AsSpan(s * history * hidden, length * hidden).CopyTo(users.AsSpan(((s * history) + history - length) * hidden));
        }

        _model.Backward(batch);
        Dictionary<string, float[]> gradients = new(StringComparer.Ordinal);
        foreach (Parameter parameter in _model.Parameters)
        {
            float[] gradient = new float[parameter.Count];
            if (batch.Items.Length > 1)
                _model.Stream.CopyToHost<float>(parameter.Gradient, gradient);
            gradients.Add(parameter.Name, gradient);
        }

        return new() { Items = table, Users = users, Scores = scores, Loss = loss, Gradients = gradients };
    }

    /// <inheritdoc/>
    public void Dispose() => _model.Dispose();

    private void Check(StreamProbeInputs inputs)
    {
        if (inputs.States.Count != _states.Length)
            throw new CudaMoEException($"states of {inputs.States.Count} modalities are given; the model has {_states.Length}");
        for (int i = 0; i < _states.Length; i++)
        {
            long count = (_items + 1L) * _states[i].Layers * _states[i].Width;
            if (inputs.States[i].Length != count)
                throw new CudaMoEException($"states of modality \"{_description.Modalities[i].Name}\" have {inputs.States[i].Length} numbers; {_items} items and padding have {count}");
        }

        if (inputs.Sequences.Count < 1 || inputs.Sequences.Count > _model.Shape.MaxSequences)
            throw new CudaMoEException($"{inputs.Sequences.Count} sequences are given; it must be 1 to {_model.Shape.MaxSequences}");
        if (inputs.Popularity is { } shares && shares.Count != _items + 1)
            throw new CudaMoEException($"popularity has {shares.Count} numbers; it must be {_items + 1}, one an item and one of padding");
        int most = _description.Model.History + 1;
        for (int s = 0; s < inputs.Sequences.Count; s++)
        {
            IReadOnlyList<int> items = inputs.Sequences[s];
            if (items.Count < 2 || items.Count > most)
                throw new CudaMoEException($"sequence {s} has {items.Count} items; it must be 2 to {most}, model.history and the one to predict");
            foreach (int item in items)
            {
                if (item < 1 || item > _items)
                    throw new CudaMoEException($"sequence {s} has item {item}; items are 1 to {_items}");
            }

            if (inputs.Popularity is { } popularity && items.Any(item => !(popularity[item] > 0) || !double.IsFinite(popularity[item])))
                throw new CudaMoEException($"sequence {s} has an item whose popularity is not a number above 0; its logarithm is taken");
        }
    }

    /// <summary>States in memory; the item's name is its number.</summary>
    private sealed class GivenStates(int layers, int width) : IItemStates
    {
        public float[] Values { get; set; } = [];

        public int Layers => layers;

        public int Width => width;

        public bool Read(string item, Span<float> states)
        {
            int number = int.Parse(item, System.Globalization.CultureInfo.InvariantCulture);
            Values.AsSpan(number * layers * width, layers * width).CopyTo(states);
            return true;
        }
    }
}
