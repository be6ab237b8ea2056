// Connects a model that is exported as a Java program to drillyard. It was not tried inside AnyLogic,
// but with the stand-in beside it. In AnyLogic: New > Java Class, with this text; see Experiment.java.
// The messages: docs/how-to/external-simulators.md. Needs only the JDK (8 or later).

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public class Drillyard {
    /** What your experiment implements. Names and numbers are those of the experiment file. */
    public interface Model {
        void reset(Map<String, Double> config, long seed) throws Exception;

        void step(Map<String, Double> actions) throws Exception;

        Map<String, Double> states();

        boolean terminated();
    }

    private static final Pattern PAIR =
        Pattern.compile("\"([^\"]+)\":\\s*(-?[0-9][0-9.eE+-]*|true|false)");

    /** Answers until drillyard closes the connection. An exception of the model ends the run with its text. */
    public static void serve(Model model) throws IOException {
        int port = Integer.parseInt(System.getenv("DRILLYARD_PORT"));
        try (Socket socket = new Socket("127.0.0.1", port)) {
            socket.setTcpNoDelay(true);
            OutputStream out = socket.getOutputStream();
            BufferedReader in = new BufferedReader(
                new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8));
            send(out, "{\"token\": \"" + System.getenv("DRILLYARD_TOKEN") + "\"}");
            String line;
            while ((line = in.readLine()) != null) {
                send(out, answer(model, line));
            }
        }
    }

    private static String answer(Model model, String line) {
        try {
            Map<String, Double> numbers = numbers(line);
            if (line.contains("\"EpisodeStart\"")) {
                long seed = numbers.remove("seed").longValue();
                model.reset(numbers, seed);
            } else if (line.contains("\"EpisodeStep\"")) {
                model.step(numbers);
            } else {
                return "{}"; // Idle: are you there?
            }
            StringBuilder text = new StringBuilder("{\"states\": {");
            String comma = "";
            for (Map.Entry<String, Double> state : model.states().entrySet()) {
                text.append(comma).append('"').append(state.getKey()).append("\": ").append(state.getValue());
                comma = ", ";
            }
            return text.append("}, \"terminated\": ").append(model.terminated()).append("}").toString();
        } catch (Exception error) {
            String text = String.valueOf(error).replaceAll("[\\\\\"\\p{Cntrl}]", "'");
            return "{\"error\": \"" + text + "\"}";
        }
    }

    private static Map<String, Double> numbers(String line) {
        Map<String, Double> found = new LinkedHashMap<>();
        Matcher pairs = PAIR.matcher(line);
        while (pairs.find()) {
            String value = pairs.group(2);
            found.put(pairs.group(1), value.equals("true") ? 1.0 : value.equals("false") ? 0.0 : Double.parseDouble(value));
        }
        return found;
    }

    private static void send(OutputStream out, String line) throws IOException {
        out.write((line + "\n").getBytes(StandardCharsets.UTF_8));
        out.flush();
    }
}
