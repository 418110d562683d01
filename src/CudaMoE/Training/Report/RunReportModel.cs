namespace CudaMoE.Training;

/// <summary>A run log, sorted into what the report shows.</summary>
internal sealed class RunReportModel
{
    private RunReportModel(RunStartedEvent started) => Started = started;

    public RunStartedEvent Started { get; }

    public List<RunResumedEvent> Resumes { get; } = [];

    public List<StepEvent> Steps { get; } = [];

    public List<EpochEvent> Epochs { get; } = [];

    public TestEvent? Test { get; private set; }

    /// <summary>The last measurement of each mixture.</summary>
    public List<GatesEvent> Gates { get; } = [];

    /// <summary>The last calibration.</summary>
    public CalibrationEvent? Calibration { get; private set; }

    public List<CheckpointEvent> Checkpoints { get; } = [];

    public RunEndedEvent? Ended { get; private set; }

    /// <summary>Steps of the last event.</summary>
    public long LastStep { get; private set; }

    /// <exception cref="RunLogException">There is no start, or an event does not fit the start's tasks.</exception>
    public static RunReportModel From(IReadOnlyList<RunEvent> events)
    {
        RunStartedEvent started = events.OfType<RunStartedEvent>().FirstOrDefault()
            ?? throw new RunLogException("the run log has no run_started event, so there is no run to report");
        RunReportModel model = new(started);
        foreach (RunEvent runEvent in events)
            model.Add(runEvent);
        return model;
    }

    private void Add(RunEvent runEvent)
    {
        LastStep = Math.Max(LastStep, runEvent.Step);
        switch (runEvent)
        {
            case RunResumedEvent resumed:
                Resumes.Add(resumed);
                break;
            case StepEvent step:
                RequireTasks(step.Losses.Count, step);
                RequireTasks(step.Weights.Count, step);
                Steps.Add(step);
                break;
            case EpochEvent epoch:
                RequireTasks(epoch.TrainLosses.Count, epoch);
                Epochs.Add(epoch);
                break;
            case TestEvent test:
                Test = test;
                break;
            case GatesEvent gates:
                RequireGates(gates);
                Gates.RemoveAll(g => g.Layer == gates.Layer);
                Gates.Add(gates);
                break;
            case CalibrationEvent calibration:
                Calibration = calibration;
                break;
            case CheckpointEvent checkpoint:
                Checkpoints.Add(checkpoint);
                break;
            case RunEndedEvent ended:
                Ended = ended;
                break;
        }
    }

    private void RequireTasks(int count, RunEvent runEvent)
    {
        if (count != Started.Tasks.Count)
            throw new RunLogException($"the run log does not fit together: at step {runEvent.Step} there are {count} values for {Started.Tasks.Count} tasks");
    }

    private static void RequireGates(GatesEvent gates)
    {
        if (gates.MeanWeights.Count != (long)gates.Gates.Count * gates.Experts || gates.ExpertLoad.Count != gates.Experts)
        {
            throw new RunLogException(
                $"the run log does not fit together: gates at step {gates.Step} have {gates.MeanWeights.Count} weights and {gates.ExpertLoad.Count} loads "
                + $"for {gates.Gates.Count} gates and {gates.Experts} experts");
        }
    }
}
