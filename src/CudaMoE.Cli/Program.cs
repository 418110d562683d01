Console.WriteLine("cudamoe");
