using CudaMoE.Checkpoints;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Streaming;
using CudaMoE.Tensors;

namespace CudaMoE.Cli.Probing;

/// <summary>Runs the network of a stream file once on named tensors: <c>states.MODALITY</c>, <c>sequences</c> and, if wanted, <c>popularity</c>.</summary>
internal static class StreamProbing
{
    private const string Sequences = "sequences";
    private const string Popularity = "popularity";

    /// <summary>Computes outputs, the loss, and its gradients.</summary>
    /// <param name="device">Where.</param>
    /// <param name="description">The stream.</param>
    /// <param name="parameters">A tensor for each parameter, by its name; they say how many experts there are.</param>
    /// <param name="inputs">The inputs.</param>
    /// <param name="writer">Gets <c>outputs.items</c>, <c>outputs.users</c>, <c>outputs.scores</c>, <c>outputs.loss</c> and <c>gradients.PARAMETER</c>.</param>
    /// <returns>The number of sequences.</returns>
    /// <exception cref="CheckpointFormatException">A tensor is missing, unknown, or of another shape.</exception>
    public static int Run(Device device, StreamDescription description, SafetensorsReader parameters, SafetensorsReader inputs, SafetensorsWriter writer)
    {
        RefuseUnknownInputs(description, inputs);
        XsmoeDescription model = description.Model;
        TensorEntry sequences = inputs.Header[Sequences];
        if (sequences.Shape is not [>= 1 and <= 1 << 20, var places] || places != model.History + 1)
            throw Wrong(inputs, sequences, $"it must be [sequences, {model.History + 1}], model.history and the item to predict");
        int count = (int)sequences.Shape[0];
        List<float[]> states = [.. description.Modalities.Select(modality => States(modality.Name, model, inputs))];
        int items = (int)inputs.Header[StatesName(description.Modalities[0].Name)].Shape[0] - 1;
        ProbedSide[] sides = [.. description.Modalities.Select(modality => Side(modality.Name, model, parameters, inputs))];
        using StreamProbe probe = new(device, description, sides, count, items);
        SetParameters(probe, parameters);
        StreamProbeAnswer answer = probe.Run(new()
        {
            States = states,
            Sequences = Read(inputs, sequences, count, (int)places),
            Popularity = inputs.Header.TryGet(Popularity, out TensorEntry? shares) ? ReadShares(inputs, shares!) : null,
        });
        writer.Add<float>("outputs.items", TensorDataType.F32, [items + 1, model.Hidden], answer.Items);
        writer.Add<float>("outputs.users", TensorDataType.F32, [count, model.History, model.Hidden], answer.Users);
        writer.Add<float>("outputs.scores", TensorDataType.F32, [count, items + 1], answer.Scores);
        writer.Add<double>("outputs.loss", TensorDataType.F64, [1], [answer.Loss]);
        foreach (Parameter parameter in probe.Parameters)
            writer.Add<float>($"gradients.{parameter.Name}", TensorDataType.F32, parameter.Shape, answer.Gradients[parameter.Name]);
        return count;
    }

    private static string StatesName(string modality) => $"states.{modality}";

    private static void RefuseUnknownInputs(StreamDescription description, SafetensorsReader inputs)
    {
        HashSet<string> known = [Sequences, Popularity, .. description.Modalities.Select(modality => StatesName(modality.Name))];
        foreach (TensorEntry entry in inputs.Header.Tensors)
        {
            if (!known.Contains(entry.Name))
                throw new CheckpointFormatException(inputs.Header.File, $"tensor \"{entry.Name}\" is no input; a stream's are {string.Join(", ", known)}");
        }
    }

    private static float[] States(string modality, XsmoeDescription model, SafetensorsReader inputs)
    {
        TensorEntry entry = inputs.Header[StatesName(modality)];
        if (entry.Shape is not [>= 2 and <= int.MaxValue, var layers, >= 1 and <= 65536] || layers != model.Layers.Count + 1)
            throw Wrong(inputs, entry, $"it must be [1 + items, {model.Layers.Count + 1}, width]: padding and the items, the embedding output and the states at model.layers");
        float[] values = new float[entry.Count];
        inputs.ReadSingles(entry.Name, values);
        return values;
    }

    // A router has a row for the encoder and one for each expert.
    private static ProbedSide Side(string modality, XsmoeDescription model, SafetensorsReader parameters, SafetensorsReader inputs)
    {
        int width = (int)inputs.Header[StatesName(modality)].Shape[2];
        List<int> experts = [];
        for (int j = 0; j < model.Layers.Count; j++)
        {
            TensorEntry router = parameters.Header[$"{modality}.layers.{j}.router.weight"];
            if (router.Shape is not [>= 2 and <= 64, var columns] || columns != width)
                throw Wrong(parameters, router, $"it must be [1 + experts, {width}], the width of the states, with at most 63 experts");
            experts.Add((int)router.Shape[0] - 1);
        }

        return new(width, experts);
    }

    private static void SetParameters(StreamProbe probe, SafetensorsReader file)
    {
        HashSet<string> known = [.. probe.Parameters.Select(parameter => parameter.Name)];
        foreach (TensorEntry entry in file.Header.Tensors)
        {
            if (!known.Contains(entry.Name))
                throw new CheckpointFormatException(file.Header.File, $"tensor \"{entry.Name}\" is not a parameter of this model; docs/models/xsmoe.md lists them");
        }

        foreach (Parameter parameter in probe.Parameters)
        {
            TensorEntry entry = file.Header[parameter.Name];
            if (!entry.Shape.SequenceEqual(parameter.Shape))
                throw Wrong(file, entry, $"this model's is [{string.Join(", ", parameter.Shape)}]");
            float[] values = new float[parameter.Count];
            file.ReadSingles(parameter.Name, values);
            probe.Set(parameter, values);
        }
    }

    /// <summary>The rows without their padding, which stands in front.</summary>
    private static List<IReadOnlyList<int>> Read(SafetensorsReader file, TensorEntry entry, int count, int places)
    {
        int[] values = ProbeInputs.Integers(file, entry);
        List<IReadOnlyList<int>> sequences = [];
        for (int s = 0; s < count; s++)
        {
            int[] row = values[(s * places)..((s + 1) * places)];
            int[] items = [.. row.SkipWhile(item => item == 0)];
            if (items.Contains(0))
                throw Wrong(file, entry, $"row {s} has a 0 behind an item; padding stands in front");
            sequences.Add(items);
        }

        return sequences;
    }

    private static double[] ReadShares(SafetensorsReader file, TensorEntry entry)
    {
        float[] values = new float[entry.Count];
        file.ReadSingles(entry.Name, values);
        return [.. values.Select(value => (double)value)];
    }

    private static CheckpointFormatException Wrong(SafetensorsReader file, TensorEntry entry, string rule) =>
        new(file.Header.File, $"tensor \"{entry.Name}\" has shape [{string.Join(", ", entry.Shape)}]; {rule}");
}
