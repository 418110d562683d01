namespace CudaMoE.Tests.Encoders;

/// <summary>BERT and ViT written down plainly in double precision, one sequence at a time, without padding.</summary>
internal static class EncoderReference
{
    /// <summary>The states of all tokens: [layer][token][width]; layer 0 is the embedding output.</summary>
    public static List<double[][]> Bert(EncoderFolder folder, int[] ids, int[]? types = null)
    {
        int width = folder.Number("hidden_size");
        double[] words = folder.Values("embeddings.word_embeddings.weight");
        double[] positions = folder.Values("embeddings.position_embeddings.weight");
        double[] kinds = folder.Values("embeddings.token_type_embeddings.weight");
        double[][] x = new double[ids.Length][];
        for (int t = 0; t < ids.Length; t++)
        {
            x[t] = new double[width];
            for (int j = 0; j < width; j++)
                x[t][j] = words[(ids[t] * width) + j] + positions[(t * width) + j] + kinds[((types?[t] ?? 0) * width) + j];
        }

        x = Norm(folder, "embeddings.LayerNorm", x);
        List<double[][]> states = [x];
        for (int i = 0; i < folder.Number("num_hidden_layers"); i++)
        {
            string layer = $"encoder.layer.{i}";
            double[][] attended = Dense(folder, $"{layer}.attention.output.dense", Attention(folder, $"{layer}.attention.self", x));
            double[][] y = Norm(folder, $"{layer}.attention.output.LayerNorm", Add(x, attended));
            x = Norm(folder, $"{layer}.output.LayerNorm", Add(y, FeedForward(folder, layer, y)));
            states.Add(x);
        }

        return states;
    }

    /// <summary>The states of the class token and the patches; the last entry is the output behind the final normalisation.</summary>
    public static List<double[][]> Vit(EncoderFolder folder, ReadOnlySpan<float> pixels)
    {
        int width = folder.Number("hidden_size"), size = folder.Number("image_size"), patch = folder.Number("patch_size");
        int side = size / patch;
        double[] kernel = folder.Values("embeddings.patch_embeddings.projection.weight");
        double[] bias = folder.Values("embeddings.patch_embeddings.projection.bias");
        double[] positions = folder.Values("embeddings.position_embeddings");
        double[][] x = new double[1 + (side * side)][];
        x[0] = folder.Values("embeddings.cls_token");
        for (int p = 0; p < side * side; p++)
        {
            x[p + 1] = new double[width];
            for (int o = 0; o < width; o++)
            {
                double sum = bias[o];
                for (int c = 0; c < 3; c++)
                {
                    for (int i = 0; i < patch; i++)
                    {
                        for (int j = 0; j < patch; j++)
                        {
                            int row = (p / side * patch) + i, column = (p % side * patch) + j;
                            sum += kernel[(((((o * 3) + c) * patch) + i) * patch) + j] * pixels[(((c * size) + row) * size) + column];
                        }
                    }
                }

                x[p + 1][o] = sum;
            }
        }

        for (int t = 0; t < x.Length; t++)
        {
            for (int j = 0; j < width; j++)
                x[t][j] += positions[(t * width) + j];
        }

        List<double[][]> states = [x];
        for (int i = 0; i < folder.Number("num_hidden_layers"); i++)
        {
            string layer = $"encoder.layer.{i}";
            double[][] attended = Dense(folder, $"{layer}.attention.output.dense", Attention(folder, $"{layer}.attention.attention", Norm(folder, $"{layer}.layernorm_before", x)));
            x = Add(x, attended);
            x = Add(x, FeedForward(folder, layer, Norm(folder, $"{layer}.layernorm_after", x)));
            states.Add(x);
        }

        states.Add(Norm(folder, "layernorm", x));
        return states;
    }

    public static double[] Mean(double[][] tokens)
    {
        double[] mean = new double[tokens[0].Length];
        foreach (double[] token in tokens)
        {
            for (int j = 0; j < mean.Length; j++)
                mean[j] += token[j] / tokens.Length;
        }

        return mean;
    }

    private static double[][] Attention(EncoderFolder folder, string name, double[][] x)
    {
        int heads = folder.Number("num_attention_heads"), width = x[0].Length, head = width / heads;
        double[][] q = Dense(folder, $"{name}.query", x), k = Dense(folder, $"{name}.key", x), v = Dense(folder, $"{name}.value", x);
        double[][] y = [.. x.Select(_ => new double[width])];
        for (int h = 0; h < heads; h++)
        {
            for (int i = 0; i < x.Length; i++)
            {
                double[] weights = new double[x.Length];
                for (int j = 0; j < x.Length; j++)
                {
                    double score = 0;
                    for (int c = h * head; c < (h + 1) * head; c++)
                        score += q[i][c] * k[j][c];
                    weights[j] = Math.Exp(score / Math.Sqrt(head));
                }

                double total = weights.Sum();
                for (int j = 0; j < x.Length; j++)
                {
                    for (int c = h * head; c < (h + 1) * head; c++)
                        y[i][c] += weights[j] / total * v[j][c];
                }
            }
        }

        return y;
    }

    private static double[][] FeedForward(EncoderFolder folder, string layer, double[][] x)
    {
        double[][] hidden = Dense(folder, $"{layer}.intermediate.dense", x);
        foreach (double[] row in hidden)
        {
            for (int j = 0; j < row.Length; j++)
                row[j] = Activate((string)folder.Config["hidden_act"]!, row[j]);
        }

        return Dense(folder, $"{layer}.output.dense", hidden);
    }

    private static double Activate(string name, double x) => name switch
    {
        "gelu" => 0.5 * x * (1 + Erf(x / Math.Sqrt(2))),
        "relu" => Math.Max(x, 0),
        _ => x / (1 + Math.Exp(-x)),
    };

    /// <summary>The series without cancellation (Abramowitz and Stegun 7.1.6).</summary>
    private static double Erf(double x)
    {
        if (Math.Abs(x) > 6)
            return Math.Sign(x);
        double term = x, sum = x;
        for (int n = 1; n < 300; n++)
            sum += term *= 2 * x * x / ((2 * n) + 1);
        return 2 / Math.Sqrt(Math.PI) * Math.Exp(-x * x) * sum;
    }

    private static double[][] Dense(EncoderFolder folder, string name, double[][] x)
    {
        double[] weight = folder.Values($"{name}.weight");
        double[] bias = folder.Tensors.ContainsKey($"{name}.bias") ? folder.Values($"{name}.bias") : new double[weight.Length / x[0].Length];
        double[][] y = new double[x.Length][];
        for (int t = 0; t < x.Length; t++)
        {
            y[t] = [.. bias];
            for (int o = 0; o < bias.Length; o++)
            {
                for (int i = 0; i < x[t].Length; i++)
                    y[t][o] += weight[(o * x[t].Length) + i] * x[t][i];
            }
        }

        return y;
    }

    private static double[][] Norm(EncoderFolder folder, string name, double[][] x)
    {
        double[] gamma = folder.Values($"{name}.weight"), beta = folder.Values($"{name}.bias");
        return [.. x.Select(row =>
        {
            double mean = row.Average();
            double deviation = Math.Sqrt(row.Sum(value => (value - mean) * (value - mean)) / row.Length + 1e-12);
            return row.Select((value, j) => ((value - mean) / deviation * gamma[j]) + beta[j]).ToArray();
        })];
    }

    private static double[][] Add(double[][] a, double[][] b) => [.. a.Zip(b, (x, y) => x.Zip(y, (u, v) => u + v).ToArray())];
}
