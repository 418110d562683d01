namespace CudaMoE.Training;

/// <summary>Sums over steps of the cosines between the tasks' gradients, since the start of an epoch.</summary>
internal sealed class PairTotals(int tasks)
{
    private const int Kept = 3;

    private readonly double[] _sums = new double[Kept * tasks * (tasks - 1) / 2];

    /// <summary>For each pair the sum of its cosines, the steps below 0, and the steps.</summary>
    public ReadOnlySpan<double> Sums => _sums;

    /// <summary>Adds a step's cosines, [tasks, tasks]; a pair whose cosine is NaN is left out.</summary>
    public void Add(ReadOnlySpan<double> cosines)
    {
        int place = 0;
        for (int i = 0; i < tasks; i++)
        {
            for (int j = i + 1; j < tasks; j++, place += Kept)
            {
                double cosine = cosines[(i * tasks) + j];
                if (double.IsNaN(cosine))
                    continue;
                _sums[place] += cosine;
                _sums[place + 1] += cosine < 0 ? 1 : 0;
                _sums[place + 2]++;
            }
        }
    }

    /// <summary>The pairs that had a cosine in some step; null when none had.</summary>
    public IReadOnlyList<TaskPair>? Pairs(IReadOnlyList<string> names)
    {
        List<TaskPair> pairs = [];
        int place = 0;
        for (int i = 0; i < tasks; i++)
        {
            for (int j = i + 1; j < tasks; j++, place += Kept)
            {
                double steps = _sums[place + 2];
                if (steps > 0)
                    pairs.Add(new() { First = names[i], Second = names[j], MeanCosine = _sums[place] / steps, Conflicts = _sums[place + 1] / steps, Steps = (long)steps });
            }
        }

        return pairs.Count == 0 ? null : pairs;
    }

    /// <summary>Starts anew.</summary>
    public void Clear() => Array.Clear(_sums);

    /// <summary>Goes on from saved sums; null = from zero.</summary>
    public void Load(IReadOnlyList<double>? sums)
    {
        for (int i = 0; i < _sums.Length; i++)
            _sums[i] = sums?[i] ?? 0;
    }
}
