using CudaMoE.Description;

namespace CudaMoE.Training;

/// <summary>The factor of the learning rates at a step.</summary>
public static class LearningRateSchedule
{
    /// <summary>Factor at <paramref name="step"/>, which counts from 1, of a run of <paramref name="totalSteps"/> steps.</summary>
    public static double Factor(ScheduleDescription schedule, long step, long totalSteps)
    {
        if (step <= schedule.WarmupSteps)
            return (double)step / schedule.WarmupSteps;
        long after = step - schedule.WarmupSteps;
        long length = Math.Max(1, totalSteps - schedule.WarmupSteps);
        double progress = Math.Min(1.0, (double)after / length);
        return schedule.Type switch
        {
            ScheduleType.Linear => 1 + ((schedule.FinalFactor - 1) * progress),
            ScheduleType.Cosine => schedule.FinalFactor + ((1 - schedule.FinalFactor) * (1 + Math.Cos(Math.PI * progress)) / 2),
            ScheduleType.Step => Math.Pow(schedule.DecayFactor, after / schedule.DecaySteps),
            ScheduleType.Exponential => Math.Pow(schedule.DecayFactor, (double)after / schedule.DecaySteps),
            _ => 1,
        };
    }
}
