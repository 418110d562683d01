// Turns the MovieLens ratings into rows for models that read a user's history and the movie's text: for each rating, in the order of time, the movie's title and
// genres, the user's earlier movies with their ratings, and three labels.
//   dotnet run -c Release --project samples/MovieLensHistory -- data/movielens-latest-small-2016 data/movielens-latest-small-2016/prepared 20
// The last fifth of each user's ratings are the test rows: users rate in bursts, so a cut at one time would leave almost no user on both sides. A history holds
// ratings of a strictly earlier second only.
using System.Globalization;
using System.IO.Compression;
using System.Text;
using System.Text.RegularExpressions;
using CudaMoE.Samples;

if (args is not [string source, string target, string length] || !int.TryParse(length, CultureInfo.InvariantCulture, out int keep) || keep < 1)
{
    Console.Error.WriteLine("usage: MovieLensHistory FOLDER TARGET LENGTH");
    return 2;
}

Table movieTable = Table.Read(Path.Combine(source, "movies.csv"), ',');
int movieColumn = movieTable.Column("movieId"), titleColumn = movieTable.Column("title"), genresColumn = movieTable.Column("genres");
Dictionary<string, string> movies = movieTable.Rows.ToDictionary(row => row[movieColumn], row => MovieFields(row[titleColumn], row[genresColumn]));

Table log = Table.Read(Path.Combine(source, "ratings.csv.gz"), ',');
int user = log.Column("userId"), movie = log.Column("movieId"), rating = log.Column("rating"), time = log.Column("timestamp");
string header = string.Join('\t', "user_id", "movie_id", "title", "year", "genres", "history_movies", "history_ratings", "rating", "liked", "loved", "disliked");
int training = 0, testing = 0;
Directory.CreateDirectory(target);
using (StreamWriter train = Open("train.csv.gz"), test = Open("test.csv.gz"))
{
    foreach (IGrouping<string, string[]> ratings in log.Rows.GroupBy(row => row[user]))
    {
        string[][] rows = [.. ratings.OrderBy(Time).ThenBy(row => int.Parse(row[movie], CultureInfo.InvariantCulture))];
        int earlier = 0;
        for (int i = 0; i < rows.Length; i++)
        {
            while (Time(rows[earlier]) < Time(rows[i]))
                earlier++;
            string[][] past = rows[Math.Max(0, earlier - keep)..earlier];
            double stars = double.Parse(rows[i][rating], CultureInfo.InvariantCulture);
            string[] fields =
            [
                rows[i][user], rows[i][movie], movies[rows[i][movie]], string.Join('|', past.Select(row => row[movie])), string.Join('|', past.Select(row => row[rating])),
                rows[i][rating], stars >= 4 ? "1" : "0", stars >= 5 ? "1" : "0", stars <= 2 ? "1" : "0",
            ];
            bool isTest = i >= rows.Length - (rows.Length / 5);
            (isTest ? test : train).WriteLine(string.Join('\t', fields));
            _ = isTest ? testing++ : training++;
        }
    }
}

Console.WriteLine($"{training} training rows, {testing} test rows");
return 0;

long Time(string[] row) => long.Parse(row[time], CultureInfo.InvariantCulture);

// The words of the title in lower case, the year in brackets behind it, the genres.
static string MovieFields(string title, string genres)
{
    Match year = Regex.Match(title, @"\((\d{4})\)\s*$");
    string words = string.Join(' ', Regex.Matches(year.Success ? title[..year.Index] : title, @"[\p{L}\p{N}]+").Select(word => word.Value.ToLowerInvariant()));
    return string.Join('\t', words, year.Groups[1].Value, genres);
}

StreamWriter Open(string name)
{
    StreamWriter writer = new(new GZipStream(File.Create(Path.Combine(target, name)), CompressionLevel.SmallestSize), new UTF8Encoding(false)) { NewLine = "\n" };
    writer.WriteLine(header);
    return writer;
}
