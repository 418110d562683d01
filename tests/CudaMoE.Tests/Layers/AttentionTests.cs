using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Tests.Support;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Layers;

/// <summary>Attention layers against plain double loops, backward against their finite differences.</summary>
public sealed unsafe class AttentionTests(ITestOutputHelper output)
{
    [Theory]
    [DeviceData(1, 1, false, false)]
    [DeviceData(4, 1, false, true)]
    [DeviceData(2, 2, true, true)]
    [DeviceData(4, 2, true, false)]
    public void Attention_ColumnsOfOneMatrix_MatchesReferenceAndDifferences(string device, int heads, int keyHeads, bool causal, bool counted)
    {
        const int width = 3, tokens = 5, sequences = 4, rows = sequences * tokens;
        using LayerBench bench = new(device, maxRows: sequences + 2, Random());
        int queryWidth = heads * width, keyWidth = keyHeads * width, all = queryWidth + (2 * keyWidth);
        Slot qkv = bench.Context.Times(tokens).Reserve("qkv", all), gradient = bench.Context.Times(tokens).Reserve("qkv_gradient", all);
        Attention attention = new(bench.Context, new()
        {
            Name = "attention",
            Q = qkv.Slice(0, queryWidth),
            K = qkv.Slice(queryWidth, keyWidth),
            V = qkv.Slice(queryWidth + keyWidth, keyWidth),
            Heads = heads,
            KeyHeads = keyHeads,
            HeadWidth = width,
            Queries = tokens,
            Keys = tokens,
            Causal = causal,
        });
        bench.Context.Commit();
        double[,] x = bench.Fill(qkv, rows);
        double[,] dy = bench.Fill(attention.OutputGradient, rows);
        bench.Poison(attention.Output, rows);
        bench.Poison(gradient, rows);
        int[]? counts = counted ? [0, 3, 5, 1] : null;

        attention.Forward(sequences, counts == null ? null : bench.Counts(counts));
        attention.Backward(sequences, gradient.Slice(0, queryWidth), gradient.Slice(queryWidth, keyWidth), gradient.Slice(queryWidth + keyWidth, keyWidth));

        LayerBench.Near(Reference(), bench.Read(attention.Output, rows), 1e-5);
        LayerBench.NearDifferences(x, () => LayerBench.Dot(Reference(), dy), bench.Read(gradient, rows));

        double[,] Reference() => AttentionReference.Forward(
            AttentionReference.Columns(x, 0, queryWidth),
            AttentionReference.Columns(x, queryWidth, keyWidth),
            AttentionReference.Columns(x, queryWidth + keyWidth, keyWidth),
            tokens,
            tokens,
            heads,
            keyHeads,
            1 / Math.Sqrt(width),
            causal,
            counts);
    }

    [Theory]
    [DeviceData]
    public void Attention_FewQueriesOverSharedWeightedKeys_MatchesReferenceAndDifferences(string device)
    {
        const int width = 4, queries = 2, keys = 6, sequences = 3;
        using LayerBench bench = new(device, sequences, Random());
        Slot q = bench.Context.Times(queries).Reserve("q", width), dq = bench.Context.Times(queries).Reserve("dq", width);
        Slot k = Slot.Reserve(bench.Context.Activations, "k", keys, width), dk = Slot.Reserve(bench.Context.Activations, "dk", keys, width);
        Slot v = Slot.Reserve(bench.Context.Activations, "v", keys, width), dv = Slot.Reserve(bench.Context.Activations, "dv", keys, width);
        Slot weights = bench.Context.Reserve("weights", keys);
        Attention attention = new(bench.Context, new()
        {
            Name = "attention",
            Q = q,
            K = k,
            V = v,
            Heads = 1,
            KeyHeads = 1,
            HeadWidth = width,
            Queries = queries,
            Keys = keys,
            SharedKeys = true,
            Scale = 0.7f,
            KeyWeights = weights,
        });
        bench.Context.Commit();
        double[,] xq = bench.Fill(q, sequences * queries), xk = bench.Fill(k, keys), xv = bench.Fill(v, keys), w = bench.Fill(weights, sequences);
        double[,] dy = bench.Fill(attention.OutputGradient, sequences * queries);

        attention.Forward(sequences, null);
        attention.Backward(sequences, dq, dk, dv);

        LayerBench.Near(Reference(), bench.Read(attention.Output, sequences * queries), 1e-5);
        LayerBench.NearDifferences(xq, () => LayerBench.Dot(Reference(), dy), bench.Read(dq, sequences * queries));
        LayerBench.NearDifferences(xk, () => LayerBench.Dot(Reference(), dy), bench.Read(dk, keys));
        LayerBench.NearDifferences(xv, () => LayerBench.Dot(Reference(), dy), bench.Read(dv, keys));

        double[,] Reference() => AttentionReference.Forward(xq, xk, xv, queries, keys, 1, 1, 0.7f, causal: false, counts: null, w, sharedKeys: true);
    }

    [Theory]
    [DeviceData(true, true, 1)]
    [DeviceData(false, false, 2)]
    [DeviceData(true, false, 2)]
    [DeviceData(false, true, 1)]
    public void SelfAttention_CountedTokens_MatchesReferenceAndDifferences(string device, bool rotary, bool causal, int keyHeads)
    {
        const int heads = 2, headWidth = 4, width = 6, tokens = 4, sequences = 3, rows = sequences * tokens;
        using LayerBench bench = new(device, sequences, Random());
        Slot input = bench.Context.Times(tokens).Reserve("x", width), dx = bench.Context.Times(tokens).Reserve("dx", width);
        SelfAttention layer = new(bench.Context, new()
        {
            Name = "block",
            X = input,
            Tokens = tokens,
            Heads = heads,
            KeyHeads = keyHeads,
            HeadWidth = headWidth,
            Causal = causal,
            RotaryBase = rotary ? 10000 : null,
        });
        bench.Context.Commit();
        double[,] x = bench.Fill(input, rows), dy = bench.Fill(layer.OutputGradient, rows), residual = bench.Fill(dx, rows);
        Dictionary<string, double[]> parameters = bench.FillParameters();
        int[] counts = [2, 0, 4];

        layer.Pack();
        layer.Forward(sequences, bench.Counts(counts));
        layer.Backward(sequences, dx, accumulate: true);

        LayerBench.Near(Reference(), bench.Read(layer.Output, rows), 3e-5);
        double[,] gradient = bench.Read(dx, rows);
        for (int r = 0; r < rows; r++)
        {
            for (int c = 0; c < width; c++)
                gradient[r, c] -= residual[r, c];
        }

        LayerBench.NearDifferences(x, () => LayerBench.Dot(Reference(), dy), gradient);
        foreach ((string name, double[] values) in parameters)
        {
            float[] actual = bench.Gradient(name);
            for (int i = 0; i < values.Length; i++)
            {
                double saved = values[i];
                values[i] = saved + 1e-4;
                double up = LayerBench.Dot(Reference(), dy);
                values[i] = saved - 1e-4;
                double down = LayerBench.Dot(Reference(), dy);
                values[i] = saved;
                double expected = (up - down) / 2e-4;
                Assert.True(Math.Abs(expected - actual[i]) <= 1e-4 * (1 + Math.Abs(expected)), $"{name}[{i}]: {actual[i]} instead of {expected}");
            }
        }

        double[,] Reference()
        {
            int keyWidth = keyHeads * headWidth;
            double[,] qkv = AttentionReference.Linear(x, parameters["block.qkv.weight"], parameters["block.qkv.bias"], (heads * headWidth) + (2 * keyWidth));
            double[,] q = AttentionReference.Columns(qkv, 0, heads * headWidth);
            double[,] k = AttentionReference.Columns(qkv, heads * headWidth, keyWidth);
            double[,] v = AttentionReference.Columns(qkv, (heads * headWidth) + keyWidth, keyWidth);
            if (rotary)
                (q, k) = (AttentionReference.Rotate(q, heads, tokens), AttentionReference.Rotate(k, keyHeads, tokens));
            double[,] y = AttentionReference.Forward(q, k, v, tokens, tokens, heads, keyHeads, 1 / Math.Sqrt(headWidth), causal, counts);
            return AttentionReference.Linear(y, parameters["block.output.weight"], parameters["block.output.bias"], width);
        }
    }

    [Theory]
    [DeviceData]
    public void Rotary_ForwardThenBackward_GivesTheInput(string device)
    {
        const int heads = 3, width = 5, positions = 4, rows = 8;
        using LayerBench bench = new(device, rows, Random());
        Slot slot = bench.Context.Reserve("x", heads * width);
        Rotary rotary = new(bench.Context, heads, width, positions);
        bench.Context.Commit();
        double[,] x = bench.Fill(slot, rows);

        rotary.Forward(rows, slot);
        LayerBench.Near(AttentionReference.Rotate(x, heads, positions), bench.Read(slot, rows), 1e-6);
        rotary.Backward(rows, slot);
        LayerBench.Near(x, bench.Read(slot, rows), 1e-6);
    }

    [Theory]
    [DeviceData]
    public void GatedProduct_Silu_MatchesReferenceAndDifferences(string device)
    {
        const int width = 7, rows = 5;
        using LayerBench bench = new(device, rows + 1, Random());
        Slot a = bench.Context.ReserveExact("a", width), both = bench.Context.ReserveExact("both", 2 * width), b = both.Slice(width, width);
        Slot gradients = bench.Context.ReserveExact("gradients", 2 * width), da = gradients.Slice(0, width), db = gradients.Slice(width, width);
        GatedProduct product = new(bench.Context, "product", a, b, ActivationKind.Silu);
        bench.Context.Commit();
        double[,] xa = bench.Fill(a, rows), z = bench.Fill(b, rows), dy = bench.Fill(product.OutputGradient, rows);
        double[,] before = bench.Fill(da, rows);
        product.Forward(rows);
        product.Backward(rows, da, db, addToA: true);

        LayerBench.Near(Reference(), bench.Read(product.Output, rows), 1e-6);
        double[,] added = bench.Read(da, rows);
        for (int r = 0; r < rows; r++)
        {
            for (int c = 0; c < width; c++)
                added[r, c] -= before[r, c];
        }

        LayerBench.NearDifferences(xa, () => LayerBench.Dot(Reference(), dy), added);
        LayerBench.NearDifferences(z, () => LayerBench.Dot(Reference(), dy), bench.Read(db, rows));

        static double Silu(double x) => x / (1 + Math.Exp(-x));

        double[,] Reference()
        {
            double[,] y = new double[rows, width];
            for (int r = 0; r < rows; r++)
            {
                for (int c = 0; c < width; c++)
                    y[r, c] = xa[r, c] * Silu(z[r, c]);
            }

            return y;
        }
    }

    [Theory]
    [DeviceData]
    public void SlotSums_OtherStrides_CopyAndAdd(string device)
    {
        const int width = 17, rows = 3;
        using LayerBench bench = new(device, rows, Random());
        Slot x = bench.Context.Reserve("x", width), y = bench.Context.ReserveExact("y", width);
        SlotSums sums = new(bench.Context);
        bench.Context.Commit();
        double[,] from = bench.Fill(x, rows);
        bench.Poison(y, rows);

        sums.Copy(rows, x, y);
        LayerBench.Near(from, bench.Read(y, rows), 0);
        sums.Add(rows, x, y);
        for (int r = 0; r < rows; r++)
        {
            for (int c = 0; c < width; c++)
                from[r, c] *= 2;
        }

        LayerBench.Near(from, bench.Read(y, rows), 0);
    }

    private Random Random()
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        return new(seed);
    }
}
