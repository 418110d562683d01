namespace CudaMoE.Balancing;

/// <summary>
/// Weights from learnt uncertainties: minimises the sum of L_t e^(-s_t) / 2 + s_t / 2, so that task t's weight is e^(-s_t) / 2 (Kendall, Gal and Cipolla,
/// CVPR 2018, section 3). Or, as IMTL-L, the sum of e^(s_t) L_t - s_t with weight e^(s_t) (Liu et al., ICLR 2021, section 3.2). s is trained by Adam of rate beta.
/// </summary>
internal sealed class UncertaintyBalancer : LossBalancer
{
    private readonly bool _imtl;
    private readonly LearntScales _scales;

    public UncertaintyBalancer(string name, BalancerSettings settings, bool imtl)
        : base(name, settings, positive: false)
    {
        _imtl = imtl;
        _scales = new(settings, imtl);
    }

    private protected override void Solve(long step, int usable, Span<double> lambda)
    {
        for (int task = 0; task < Tasks; task++)
        {
            if (!Usable[task])
                continue;
            lambda[task] = _scales.Weight(task) / usable;
            _scales.Learn(task, Losses[task]);
        }
    }

    private protected override void SaveOwn(Dictionary<string, IReadOnlyList<double>> state) => _scales.Save(state);

    private protected override void LoadOwn(IReadOnlyDictionary<string, IReadOnlyList<double>> state) => _scales.Load(Take(state, LearntScales.Key, _scales.StateLength));

    /// <summary>The learnt s_t of UW or IMTL-L.</summary>
    internal sealed class LearntScales(BalancerSettings settings, bool imtl)
    {
        public const string Key = "s";

        // e^15 is 3e6: beyond that a loss is 0 or has no scale, and the weight would only run away.
        private const double Largest = 15;

        private readonly AdamVector _s = new(Key, settings.Tasks, imtl ? 0 : -0.5, settings.Description.Beta ?? 1e-3);

        public int StateLength => _s.StateLength;

        public double Weight(int task) => imtl ? Math.Exp(Bounded(task)) : Math.Exp(-Bounded(task)) / 2;

        /// <summary>One step against the derivative by s: L e^s - 1, or (1 - L e^-s) / 2.</summary>
        public void Learn(int task, double loss)
        {
            double gradient = imtl ? (loss * Math.Exp(Bounded(task))) - 1 : (1 - (loss * Math.Exp(-Bounded(task)))) / 2;
            _s.Step(task, gradient);
        }

        public void Save(Dictionary<string, IReadOnlyList<double>> state) => _s.Save(state);

        public void Load(IReadOnlyList<double> state) => _s.Load(state);

        private double Bounded(int task) => Math.Clamp(_s.Values[task], -Largest, Largest);
    }
}
