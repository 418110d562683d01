using System.CommandLine;
using CudaMoE.Training;

namespace CudaMoE.Cli.Commands;

/// <summary>Goes on with a run.</summary>
internal sealed class ResumeCommand : RunCommand
{
    private readonly Argument<string> _folder = new("RUN_FOLDER") { Description = "The folder of a run that was cancelled, failed or was killed" };

    public ResumeCommand()
        : base(
            "resume",
            "Go on with a run from its latest checkpoint; it ends with the same bits as if it had never stopped.",
            "cudamoe resume runs/census-20260102-030405")
    {
        Add(_folder);
        Add(Device);
        Add(LogEvery);
        Add(KeepCheckpoints);
        Add(NoReport);
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation) =>
        Execute(arguments, context, observer => Trainer.Resume(arguments.GetRequiredValue(_folder), TrainerOptionsOf(arguments), observer, cancellation));
}
