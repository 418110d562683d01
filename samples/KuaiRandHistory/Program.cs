// Turns the KuaiRand log into rows for models that read a user's history: for each interaction, in the order of time, the user's earlier videos and what came of
// them, the user's features, and the labels: seven of yes and no, and the seconds watched. The first 80 % by time are the training rows, the rest the test rows.
//   dotnet run -c Release --project samples/KuaiRandHistory -- data/kuairand data/kuairand/prepared 20
// A history holds interactions of a strictly earlier time only, also those of the test rows' own past. Rows that repeat another one letter by letter are dropped.
using System.Globalization;
using System.IO.Compression;
using System.Text;
using CudaMoE.Samples;

if (args is not [string source, string target, string length] || !int.TryParse(length, CultureInfo.InvariantCulture, out int keep) || keep < 1)
{
    Console.Error.WriteLine("usage: KuaiRandHistory FOLDER TARGET LENGTH");
    return 2;
}

string[] userColumns =
[
    "user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author", "follow_user_num_range", "fans_user_num_range", "friend_user_num_range",
    "register_days_range", .. Enumerable.Range(0, 12).Select(i => $"onehot_feat{i}"),
];
string[] labels = ["is_click", "long_view", "label", "is_profile_enter", "is_comment", "is_forward", "is_follow"];

Dictionary<string, string> users = [];
Table userTable = Table.Read(Path.Combine(source, "user_features_pure.csv.gz"), ',');
foreach (string[] row in userTable.Rows)
    users[row[userTable.Column("user_id")]] = string.Join('\t', userColumns.Select(name => row[userTable.Column(name)]));

Table log = Table.Read(Path.Combine(source, "processed_standard_kcore_15.csv.gz"), '\t');
int user = log.Column("user_id"), video = log.Column("video_id"), time = log.Column("time_ms"), hour = log.Column("hourmin"), duration = log.Column("duration_ms"), watched = log.Column("play_time_ms");
int[] labelColumns = [.. labels.Select(log.Column)];
string[][] rows = [.. log.Rows.DistinctBy(row => string.Join('\t', row)).OrderBy(row => Time(row)).ThenBy(row => row[user], StringComparer.Ordinal).ThenBy(row => row[video], StringComparer.Ordinal)];

string header = string.Join('\t', ["user_id", "video_id", "hour", "duration_ms", .. userColumns, "history_videos", "history_actions", .. labels, "watch_seconds"]);
int training = rows.Length * 8 / 10;
Dictionary<string, List<(long Time, string Video, string Action)>> histories = [];
Directory.CreateDirectory(target);
using (StreamWriter train = Open("train.csv.gz"), test = Open("test.csv.gz"))
{
    for (int i = 0; i < rows.Length; i++)
    {
        string[] row = rows[i];
        if (!histories.TryGetValue(row[user], out List<(long Time, string Video, string Action)>? history))
            histories[row[user]] = history = [];
        (long Time, string Video, string Action)[] past = [.. history.Where(h => h.Time < Time(row)).TakeLast(keep)];
        string[] fields =
        [
            row[user], row[video], (int.Parse(row[hour], CultureInfo.InvariantCulture) / 100).ToString(CultureInfo.InvariantCulture), row[duration], users[row[user]],
            string.Join('|', past.Select(h => h.Video)), string.Join('|', past.Select(h => h.Action)), .. labelColumns.Select(column => row[column]),
            (long.Parse(row[watched], CultureInfo.InvariantCulture) / 1000.0).ToString(CultureInfo.InvariantCulture),
        ];
        (i < training ? train : test).WriteLine(string.Join('\t', fields));
        history.Add((Time(row), row[video], string.Concat(labelColumns.Select(column => row[column] == "1" ? '1' : '0'))));
    }
}

Console.WriteLine($"{training} training rows, {rows.Length - training} test rows, {log.Rows.Count - rows.Length} repeated rows dropped");
return 0;

long Time(string[] row) => long.Parse(row[time], CultureInfo.InvariantCulture);

StreamWriter Open(string name)
{
    StreamWriter writer = new(new GZipStream(File.Create(Path.Combine(target, name)), CompressionLevel.SmallestSize), new UTF8Encoding(false)) { NewLine = "\n" };
    writer.WriteLine(header);
    return writer;
}
