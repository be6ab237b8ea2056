# A kiln, in Perl: a simulator that is a program of its own and knows nothing of Python.
# It connects to drillyard, then answers each line with a line. docs/how-to/external-simulators.md
use strict;
use warnings;
use IO::Socket::INET;
use JSON::PP;

my $socket = IO::Socket::INET->new(
    PeerAddr => "127.0.0.1", PeerPort => $ENV{DRILLYARD_PORT}, Proto => "tcp",
) or die "cannot connect to port $ENV{DRILLYARD_PORT}: $!\n";
$socket->autoflush(1);
print $socket encode_json({token => $ENV{DRILLYARD_TOKEN}}), "\n";

my ($temperature, $wanted, $minutes);

sub answer {
    print $socket encode_json({
        states => {temperature => $temperature, wanted => $wanted, minutes => $minutes},
        terminated => $temperature > 1300 ? JSON::PP::true : JSON::PP::false,
        truncated => $minutes >= 60 ? JSON::PP::true : JSON::PP::false,
    }), "\n";
}

# The end of the connection is the end of the loop, and of the program.
while (my $line = <$socket>) {
    my $message = decode_json($line);
    if ($message->{type} eq "EpisodeStart") {
        my $config = $message->{config};
        $temperature = $config->{temperature} // 20;
        $wanted = $config->{wanted} // 800;
        $minutes = 0;
        answer();
    } elsif ($message->{type} eq "EpisodeStep") {
        # A minute: what the burner gives, less what goes through the walls.
        my $burner = $message->{actions}{burner};
        $temperature += 0.9 * $burner - 0.04 * ($temperature - 20);
        $minutes += 1;
        answer();
    } else {    # Idle: are you there?
        print $socket "{}\n";
    }
}
