using CudaMoE.Description;
using CudaMoE.Tests.Repository;

namespace CudaMoE.Tests.Data;

/// <summary>The census description in records, as <c>models/census-mmoe.json</c> has it.</summary>
internal static class Census
{
    public static readonly string[] Columns = string.Join(
        ',',
        "age,class_worker,det_ind_code,det_occ_code,education,wage_per_hour,hs_college,marital_stat,major_ind_code,major_occ_code,race",
        "hisp_origin,sex,union_member,unemp_reason,full_or_part_emp,capital_gains,capital_losses,stock_dividends,tax_filer_stat",
        "region_prev_res,state_prev_res,det_hh_fam_stat,det_hh_summ,instance_weight,mig_chg_msa,mig_chg_reg,mig_move_reg,mig_same",
        "mig_prev_sunbelt,num_emp,fam_under_18,country_father,country_mother,country_self,citizenship,own_or_self,vet_question",
        "vet_benefits,weeks_worked,year,income_50k").Split(',');

    public static readonly string[] Logarithmic = ["wage_per_hour", "capital_gains", "capital_losses", "stock_dividends"];

    public static readonly string[] Standardized = ["age", "num_emp", "weeks_worked"];

    public static readonly string[] Excluded = ["education", "marital_stat", "income_50k", "instance_weight"];

    public static readonly string[] College =
    [
        "Bachelors degree(BA AB BS)",
        "Masters degree(MA MS MEng MEd MSW MBA)",
        "Prof school degree (MD DDS DVM LLB JD)",
        "Doctorate degree(PhD EdD)",
    ];

    public static string Folder => Path.Combine(SourceTree.Root, "data", "census-income-kdd");

    public static ModelDescription Describe(string cache) => new()
    {
        Name = "census",
        Data = new()
        {
            Format = new() { Header = false, Columns = Columns, Quote = null, Missing = ["?"] },
            Train = ["census-income.data.gz"],
            Test = ["census-income.test.gz"],
            ValidationSplit = new() { From = SplitSource.Test, Fraction = 0.5, Seed = 1 },
            Cache = cache,
        },
        Features =
        [
            .. Columns.Except(Excluded).Select(name =>
                Logarithmic.Contains(name) ? new FeatureDescription { Name = name, Type = FeatureType.Dense, Transform = DenseTransform.Log }
                : Standardized.Contains(name) ? new FeatureDescription { Name = name, Type = FeatureType.Dense, Transform = DenseTransform.Standardize }
                : new FeatureDescription { Name = name, Type = FeatureType.Categorical, Dimension = 4 }),
        ],
        Tasks =
        [
            new() { Name = "income", Type = TaskType.Binary, Column = "income_50k", Positive = ["50000+."] },
            new() { Name = "never_married", Type = TaskType.Binary, Column = "marital_stat", Positive = ["Never married"] },
            new() { Name = "college", Type = TaskType.Binary, Column = "education", Positive = College },
        ],
        Architecture = new() { Type = ModelType.Mmoe, Experts = new() { Count = 8, Layers = [16] }, Tower = [8] },
    };
}
