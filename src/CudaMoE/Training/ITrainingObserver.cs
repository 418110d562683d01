namespace CudaMoE.Training;

/// <summary>
/// Is told what a run does, on the thread that trains; a slow observer slows the run. Every method may be left out. The events are
/// those of the run log, already written when the observer gets them.
/// </summary>
public interface ITrainingObserver
{
    /// <summary>Source rows are being read into the cache; before <see cref="OnStarted"/>, some times a second.</summary>
    void OnDataProgress(in DataProgress progress)
    {
    }

    /// <summary>Something about the data that a user should know though it is no error, see <see cref="Data.Dataset.Notices"/>; when the data is open.</summary>
    void OnNotice(string notice)
    {
    }

    /// <summary>The run folder stands and training begins.</summary>
    void OnStarted(string runFolder, RunStartedEvent started)
    {
    }

    /// <summary>The run goes on from a checkpoint and training begins; instead of <see cref="OnStarted"/>.</summary>
    void OnResumed(string runFolder, RunStartedEvent started, RunResumedEvent resumed)
    {
    }

    /// <summary>A step is done; called at every step.</summary>
    void OnProgress(in TrainingProgress progress)
    {
    }

    /// <summary>Rows of validation or test were predicted; some times a second.</summary>
    void OnEvaluationProgress(in EvaluationProgress progress)
    {
    }

    /// <summary>A step was logged.</summary>
    void OnStep(StepEvent logged)
    {
    }

    /// <summary>An epoch is done.</summary>
    void OnEpoch(EpochEvent epoch)
    {
    }

    /// <summary>Gates were measured.</summary>
    void OnGates(GatesEvent gates)
    {
    }

    /// <summary>Calibration was measured.</summary>
    void OnCalibration(CalibrationEvent calibration)
    {
    }

    /// <summary>The test is done.</summary>
    void OnTest(TestEvent test)
    {
    }

    /// <summary>A checkpoint is complete on disk.</summary>
    void OnCheckpoint(CheckpointEvent checkpoint)
    {
    }

    /// <summary>The run has ended, also by an error or a cancellation; nothing comes after it.</summary>
    void OnEnded(RunEndedEvent ended)
    {
    }
}

/// <summary>How far the reading of the source files is.</summary>
/// <param name="Phase">What is done now, e.g. "fitting encoders" or "writing the cache".</param>
/// <param name="File">The file that is read.</param>
/// <param name="Rows">Rows read so far, over all files.</param>
/// <param name="Fraction">Share of the work that is done, 0 to 1.</param>
public readonly record struct DataProgress(string Phase, string File, long Rows, double Fraction);

/// <summary>How far the training is.</summary>
/// <param name="Epoch">Epoch, from 1.</param>
/// <param name="Epochs">Most epochs.</param>
/// <param name="Step">Steps done in the run.</param>
/// <param name="Steps">Steps of the run when no epoch is saved by early stopping.</param>
/// <param name="SamplesPerSecond">Training rows a second, over the last second or so.</param>
/// <param name="Loss">Mean of the task losses over the last steps; NaN before there is one.</param>
public readonly record struct TrainingProgress(int Epoch, int Epochs, long Step, long Steps, double SamplesPerSecond, double Loss);

/// <summary>How far an evaluation is.</summary>
/// <param name="Split">"validation" or "test".</param>
/// <param name="Rows">Rows done.</param>
/// <param name="TotalRows">Rows of the split.</param>
public readonly record struct EvaluationProgress(string Split, long Rows, long TotalRows);
