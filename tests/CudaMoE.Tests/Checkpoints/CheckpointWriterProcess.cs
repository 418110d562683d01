using CudaMoE.Checkpoints;

namespace CudaMoE.Tests.Checkpoints;

/// <summary>The child process of the kill tests: saves checkpoint after checkpoint into a store, and says on its standard output which are done.</summary>
internal static class CheckpointWriterProcess
{
    /// <summary>A checkpoint whose every file follows from its step.</summary>
    public static CheckpointContent Content(long step) => new()
    {
        WriteModel = stream => stream.Write("{}"u8),
        WriteEncoders = stream => stream.Write(BitConverter.GetBytes(step)),
        AddWeights = writer => writer.Add("w", TensorDataType.I64, [5000], Enumerable.Repeat(step, 5000).ToArray()),
        AddOptimizer = writer => writer.Add("m", TensorDataType.I64, [1], new[] { step }),
        State = new() { Step = step, Epoch = 1, Batch = 2, Seed = ulong.MaxValue },
    };

    /// <summary>Checks that all files of a checkpoint belong to one step.</summary>
    public static long StepOf(CheckpointFolder checkpoint)
    {
        using SafetensorsReader weights = checkpoint.OpenWeights();
        using SafetensorsReader optimizer = checkpoint.OpenOptimizer();
        long step = checkpoint.State.Step;
        Assert.Equal(step, weights.Elements<long>("w")[0]);
        Assert.Equal(step, weights.Elements<long>("w")[4999]);
        Assert.Equal(step, optimizer.Elements<long>("m")[0]);
        Assert.Equal(step, BitConverter.ToInt64(File.ReadAllBytes(checkpoint.EncodersPath!)));
        return step;
    }

    /// <summary>Saves for ever, or up to the stage named; then waits to be killed.</summary>
    public static int Run(string folder, string stopAt)
    {
        long step = new CheckpointStore(folder).OpenLatest()?.State.Step ?? 0;
        CheckpointStore store = new(folder, keep: 1)
        {
            Stage = stage =>
            {
                if (stage != stopAt)
                    return;
                Console.WriteLine("at stage");
                Thread.Sleep(Timeout.Infinite);
            },
        };
        while (true)
        {
            step++;
            store.Save(Content(step), best: true);
            Console.WriteLine($"saved {step}");
        }
    }
}
