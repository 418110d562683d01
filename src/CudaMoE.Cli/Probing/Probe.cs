using CudaMoE.Checkpoints;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;

namespace CudaMoE.Cli.Probing;

/// <summary>Runs a model once on given parameters and inputs, and writes outputs and gradients by name.</summary>
internal static class Probe
{
    /// <summary>Computes the outputs and, when gradients on them are given, the gradients of all parameters and inputs.</summary>
    /// <param name="device">Where.</param>
    /// <param name="inputs">The inputs.</param>
    /// <param name="parameters">A tensor for each parameter, by its name.</param>
    /// <param name="gradients">A tensor [rows, outputs] for each task, by its name; null for outputs only.</param>
    /// <param name="writer">Gets <c>outputs.TASK</c> (logits), <c>gradients.PARAMETER</c> and <c>gradients.inputs.FEATURE</c>.</param>
    /// <exception cref="CheckpointFormatException">A tensor is missing, unknown, or of another shape.</exception>
    public static void Run(Device device, ProbeInputs inputs, SafetensorsReader parameters, SafetensorsReader? gradients, SafetensorsWriter writer)
    {
        using MultiTaskModel model = new(device, Bare(inputs.Shape.Description), inputs.Shape.Layout, inputs.Shape.Outputs, inputs.Rows, training: true);
        SetParameters(model, inputs, parameters);
        model.Forward(inputs.Batch);
        model.Stream.Synchronize();
        for (int task = 0; task < model.Outputs.Count; task++)
            writer.Add<float>($"outputs.{TaskName(model, task)}", TensorDataType.F32, [inputs.Rows, model.Outputs[task]], Read(model, model.Logits(task)));
        if (gradients is null)
            return;
        RefuseUnknown(gradients, [.. model.Description.Tasks.Select(t => t.Name)], "a task");
        for (int task = 0; task < model.Outputs.Count; task++)
            SetGradient(model, task, inputs.Rows, gradients);
        model.BackwardTowers();
        model.BackwardTrunk([], gramIsFresh: false);
        model.Stream.Synchronize();
        AddGradients(model, inputs, writer);
    }

    // Only what the outputs and their gradients depend on. Tables are f32, since dense numbers are looked up, too; described bf16 tables are rounded when
    // they are read. Losses of the gates are the training's own, not a function of the outputs.
    private static ModelDescription Bare(ModelDescription description) => description with
    {
        Architecture = description.Architecture with
        {
            EmbeddingPrecision = Precision.F32,
            Gate = description.Architecture.Gate with { BalanceLoss = 0, ZLoss = 0 },
        },
        Training = new()
        {
            Optimizer = new() { Type = OptimizerType.Sgd },
            EmbeddingOptimizer = new() { Type = OptimizerType.Sgd },
        },
    };

    private static void SetParameters(MultiTaskModel model, ProbeInputs inputs, SafetensorsReader file)
    {
        IReadOnlyList<string> dense = ParameterFile.TableNames(model.Description, ProbeInputs.DenseTable);
        RefuseUnknown(file, [.. model.Parameters.Select(p => p.Name).Except(dense)], "a parameter of this model");
        bool roundTables = inputs.Shape.Description.Architecture.EmbeddingPrecision == Precision.Bf16;
        foreach (Parameter parameter in model.Parameters)
        {
            float[] values = inputs.Dense;
            if (!dense.Contains(parameter.Name))
            {
                TensorEntry entry = file.Header[parameter.Name];
                if (!entry.Shape.SequenceEqual(parameter.Shape))
                {
                    throw new CheckpointFormatException(
                        file.Header.File, $"tensor \"{entry.Name}\" has shape [{string.Join(", ", entry.Shape)}]; this model's is [{string.Join(", ", parameter.Shape)}]");
                }

                values = new float[parameter.Count];
                file.ReadSingles(parameter.Name, values);
                if (roundTables && parameter.Kind == ParameterKind.Embedding)
                    RoundToBf16(values);
            }

            model.Stream.CopyToDevice<float>(values, parameter.Value);
        }

        model.ParametersChanged();
    }

    // To nearest, ties to even, as the engine stores bf16.
    private static void RoundToBf16(float[] values)
    {
        for (int i = 0; i < values.Length; i++)
        {
            uint bits = BitConverter.SingleToUInt32Bits(values[i]);
            if (float.IsFinite(values[i]))
                values[i] = BitConverter.UInt32BitsToSingle((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF_0000);
        }
    }

    private static void SetGradient(MultiTaskModel model, int task, int rows, SafetensorsReader file)
    {
        string name = TaskName(model, task);
        int outputs = model.Outputs[task];
        TensorEntry entry = file.Header[name];
        bool fits = (entry.Shape is [var r, var c] && r == rows && c == outputs) || (entry.Shape is [var alone] && alone == rows && outputs == 1);
        if (!fits)
            throw new CheckpointFormatException(file.Header.File, $"tensor \"{name}\" has shape [{string.Join(", ", entry.Shape)}]; the task's outputs are [{rows}, {outputs}]");
        float[] values = new float[rows * outputs];
        file.ReadSingles(name, values);
        Tensor target = model.LogitGradients(task);
        for (int row = 0; row < rows; row++)
            model.Stream.CopyToDevice<float>(values.AsSpan(row * outputs, outputs), Row(target, row));
    }

    private static void AddGradients(MultiTaskModel model, ProbeInputs inputs, SafetensorsWriter writer)
    {
        IReadOnlyList<string> dense = ParameterFile.TableNames(model.Description, ProbeInputs.DenseTable);
        IReadOnlyList<float[]> tables = model.EmbeddingGradients();
        float[] denseGradient = new float[inputs.Dense.Length];
        int table = 0;
        foreach (Parameter parameter in model.Parameters)
        {
            if (parameter.Kind == ParameterKind.Frozen)
                continue;
            float[] gradient;
            if (parameter.Kind == ParameterKind.Embedding)
            {
                gradient = tables[table++];
            }
            else
            {
                gradient = new float[parameter.Count];
                model.Stream.CopyToHost<float>(parameter.Gradient, gradient);
            }

            if (dense.Contains(parameter.Name))
                AddTo(denseGradient, gradient);
            else
                writer.Add($"gradients.{parameter.Name}", TensorDataType.F32, parameter.Shape, gradient);
        }

        AddInputGradients(model, inputs, denseGradient, writer);
    }

    // The gradient of an embedded feature is that of its pooled embedding, of a sequence those of its positions, in the part of each unit; that of a dense one is of its numbers.
    private static void AddInputGradients(MultiTaskModel model, ProbeInputs inputs, float[] dense, SafetensorsWriter writer)
    {
        int embedded = 0;
        long first = 0;
        int column = 0;
        foreach (FeatureDescription feature in inputs.Shape.Description.Features)
        {
            if (ModelShape.IsEmbedded(feature))
            {
                long width = inputs.Shape.Layout.Sparse[embedded++].Width;
                AddEmbeddedGradients(model, inputs, feature.Name, first, width, writer);
                first += width;
                continue;
            }

            int size = ModelShape.DenseWidth(feature);
            float[] values = new float[inputs.Rows * size];
            for (int row = 0; row < inputs.Rows; row++)
                dense.AsSpan((row * inputs.DenseWidth) + column, size).CopyTo(values.AsSpan(row * size));
            writer.Add<float>($"gradients.inputs.{feature.Name}", TensorDataType.F32, [inputs.Rows, size], values);
            column += size;
        }
    }

    private static void AddEmbeddedGradients(MultiTaskModel model, ProbeInputs inputs, string feature, long first, long width, SafetensorsWriter writer)
    {
        Tensor row = model.FeatureGradients!.Value;
        IReadOnlyList<string> units = MultiTaskModel.TableUnits(model.Description);
        string[] names = units.Count == 0 ? [feature] : [.. units.Select(unit => $"{unit}.{feature}")];
        for (int unit = 0; unit < names.Length; unit++)
        {
            Tensor part = row.Slice((unit * (row.Columns / names.Length)) + first, width);
            writer.Add<float>($"gradients.inputs.{names[unit]}", TensorDataType.F32, [inputs.Rows, width], Read(model, part));
        }
    }

    private static void RefuseUnknown(SafetensorsReader file, HashSet<string> known, string what)
    {
        foreach (TensorEntry entry in file.Header.Tensors)
        {
            if (!known.Contains(entry.Name))
                throw new CheckpointFormatException(file.Header.File, $"tensor \"{entry.Name}\" is not {what}; 'cudamoe inspect --parameters' lists the names");
        }
    }

    private static void AddTo(float[] sum, float[] values)
    {
        for (int i = 0; i < sum.Length; i++)
            sum[i] += values[i];
    }

    private static float[] Read(MultiTaskModel model, Tensor tensor)
    {
        float[] values = new float[tensor.Rows * tensor.Columns];
        for (long row = 0; row < tensor.Rows; row++)
            model.Stream.CopyToHost(Row(tensor, row), values.AsSpan((int)(row * tensor.Columns), (int)tensor.Columns));
        return values;
    }

    private static nint Row(Tensor tensor, long row) => tensor.Pointer + (nint)(row * tensor.RowStride * sizeof(float));

    private static string TaskName(MultiTaskModel model, int task) => model.Description.Tasks[task].Name;
}
